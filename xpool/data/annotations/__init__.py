"""Read annotation files, whatever their form: text, JSON, CSV, pickles, tables of rows."""
