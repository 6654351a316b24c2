// The pages work without this file. With it the filter applies while one
// types, and relative times go on.
"use strict";

const form = document.getElementById("filter");
let asked = 0;

// refresh shows what the form says, and keeps the address shareable.
async function refresh() {
  const mine = ++asked;
  const query = new URLSearchParams(new FormData(form));
  for (const [key, value] of [...query]) {
    if (value === "") query.delete(key);
  }
  const url = query.toString() ? "?" + query : "./";
  const text = await fetch(url).then(answer => answer.ok ? answer.text() : "", () => "").catch(() => "");
  const page = new DOMParser().parseFromString(text, "text/html");
  const results = page.getElementById("results");
  // Without results the button still works, and shows why there are none. An
  // older answer may come later than the one to a newer question.
  if (!results || mine !== asked) return;
  document.getElementById("results").replaceWith(results);
  document.getElementById("count").replaceChildren(...page.getElementById("count").childNodes);
  document.title = page.title;
  history.replaceState(null, "", url);
}

if (form) {
  let timer;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, 200);
  });
}

function ago(seconds) {
  if (seconds < -60) return "in the future";
  if (seconds < 60) return Math.floor(Math.max(seconds, 0)) + " s ago";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
  if (seconds < 48 * 3600) return Math.floor(seconds / 3600) + " h ago";
  return Math.floor(seconds / 86400) + " d ago";
}

setInterval(() => {
  for (const time of document.querySelectorAll("td time")) {
    time.textContent = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
  }
}, 10000);
