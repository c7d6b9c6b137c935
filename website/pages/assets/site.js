// The theme gives this dialogue no name, which a screen reader would say.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search")
