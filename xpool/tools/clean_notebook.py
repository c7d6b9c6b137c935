"""Git's filter for notebooks: what is committed, and compared, has no outputs.

``.gitattributes`` names the filter, and ``make setup`` tells git its command. A notebook that was
opened, run and saved therefore differs from the commit only in what its user changed.
"""

import sys

from xpool.project.digests import without_outputs

if __name__ == "__main__":
    sys.stdout.buffer.write(without_outputs(sys.stdin.buffer.read()))
