"use strict";
// Draws the answers of one or two methods. As a page of its own it has them in `window.ANSWERS`;
// else it asks the server that served it.

const $ = (id) => document.getElementById(id);
const BAR_PX = 40;

function say(text, error = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
}

function made(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

function card(answer, weightsAre) {
  const part = $("card").content.cloneNode(true);
  const article = part.querySelector("article");
  const video = part.querySelector("video");
  part.querySelector(".rank").textContent = `${answer.rank}.`;
  part.querySelector(".name").textContent = answer.name;
  const best = answer.frames[answer.best];
  const meta = part.querySelector(".meta");
  meta.textContent = `score ${answer.score.toFixed(3)}, best frame at ${best.time_s.toFixed(1)} s`;
  if (answer.right) {
    article.classList.add("right");
    meta.prepend(made("span", "✓ the video of this text", "tick"), ", ");
  }
  video.src = answer.film;
  video.poster = best.src;
  video.setAttribute("aria-label", answer.name);
  const most = Math.max(...answer.frames.map((frame) => frame.weight), 1e-9);
  const strip = part.querySelector(".frames");
  strip.setAttribute("aria-label", `frames, with the ${weightsAre}`);
  answer.frames.forEach((frame, number) => {
    if (!frame.exists) return;
    const button = made("button", undefined, number === answer.best ? "best" : "");
    button.type = "button";
    const time = `${frame.time_s.toFixed(1)} s`;
    button.title = `${time}: ${frame.weight.toFixed(3)}`;
    button.setAttribute("aria-label", `play from ${time}, weight ${frame.weight.toFixed(3)}`);
    const bar = made("span", undefined, "bar");
    bar.style.height = `${(BAR_PX * frame.weight) / most}px`;
    const image = made("img");
    image.src = frame.src;
    image.alt = "";
    button.append(bar, image, made("small", frame.time_s.toFixed(1)));
    button.addEventListener("click", () => play(video, frame.time_s));
    strip.append(button);
  });
  return part;
}

function play(video, time) {
  const start = () => { video.currentTime = time; video.play(); };
  if (video.readyState >= 1) start();
  else { video.addEventListener("loadedmetadata", start, { once: true }); video.load(); }
}

function draw(answers) {
  $("columns").replaceChildren(...answers.columns.map((column) => {
    const section = made("section");
    section.append(made("h2", column.method));
    section.append(made("p", column.note, "note"));
    column.answers.forEach((answer) => section.append(card(answer, column.weights_are)));
    return section;
  }));
}

function option(select, value, text) {
  const element = made("option", text);
  element.value = value;
  select.append(element);
}

async function answer(request) {
  const reply = await request;
  const content = await reply.json();
  if (!reply.ok) throw new Error(content.error);
  return content;
}

async function search(event) {
  if (event) event.preventDefault();
  const asked = new URLSearchParams({ q: $("query").value, where: $("where").value });
  [$("run-1"), $("run-2")].forEach((select) => select.value && asked.append("run", select.value));
  say("Searching; the first search with a run reads it from disk.");
  $("go").disabled = true; // Enter asks no second time either
  try {
    const found = await answer(fetch(`api/search?${asked}`));
    draw(found);
    say("");
  } catch (error) {
    $("columns").replaceChildren();
    say(error.message, true);
  }
  $("go").disabled = false;
}

async function upload() {
  const file = $("upload").files[0];
  if (!file) return;
  const form = new FormData();
  form.append("video", file);
  say(`Reading ${file.name} ...`);
  try {
    const added = await answer(fetch("api/upload", { method: "POST", body: form }));
    say(`${added.name} is searched too, beside the test split or alone.`);
    if (![...$("where").options].some((each) => each.value === "yours")) {
      option($("where"), "yours", "Yours alone");
      option($("where"), "both", "Both");
    }
    $("where").value = "both";
  } catch (error) {
    say(error.message, true);
  }
  $("upload").value = "";
}

async function start() {
  if (window.ANSWERS) {
    $("about").textContent = window.ANSWERS.about;
    $("columns").before(made("p", `“${window.ANSWERS.query}”`, "query"));
    draw(window.ANSWERS);
    return;
  }
  try {
    const there = await answer(fetch("api/start"));
    $("about").textContent = there.about;
    there.runs.forEach((run) => {
      option($("run-1"), run.folder, run.name);
      option($("run-2"), run.folder, run.name);
    });
    option($("run-2"), "", "none");
    $("run-1").value = there.first;
    $("run-2").value = there.second;
    there.places.forEach((place) => option($("where"), place.value, place.name));
    there.examples.forEach((text) => {
      const button = made("button", text);
      button.type = "button";
      button.addEventListener("click", () => { $("query").value = text; search(); });
      $("examples").append(button);
    });
    $("ask").hidden = false;
    $("ask").addEventListener("submit", search);
    $("upload").addEventListener("change", upload);
    $("query").focus();
  } catch (error) {
    say(error.message, true);
  }
}

start();
