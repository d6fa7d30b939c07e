// Two comforts, a search for users and large pictures; without scripts the page says all the same.
"use strict";
const search = document.getElementById("search");
if (search) {
  const box = search.querySelector("input");
  const said = search.querySelector("output");
  const cards = [...document.querySelectorAll(".card")];
  box.addEventListener("input", () => {
    const wanted = box.value.trim().toLowerCase();
    let found = 0;
    for (const card of cards) {
      card.hidden = !card.querySelector("header").textContent.toLowerCase().includes(wanted);
      found += card.hidden ? 0 : 1;
    }
    said.textContent = wanted ? `${found} of the ${cards.length} users on this page` : "";
  });
  search.hidden = false;
}
const large = document.getElementById("large");
const open = (picture) => {
  large.querySelector("img").src = picture.src;
  large.querySelector("img").alt = picture.alt;
  large.querySelector("p").textContent = picture.title;
  large.showModal();
};
for (const picture of document.querySelectorAll("img.pic")) {
  picture.tabIndex = 0;
  picture.setAttribute("role", "button");
  picture.addEventListener("click", () => open(picture));
  picture.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open(picture);
    }
  });
}
large.addEventListener("click", () => large.close());
