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
  const url = query.size ? "?" + query : "./";
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) return; // the button still works, and shows why
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (mine !== asked) return; // an older answer came later
  document.getElementById("results").replaceWith(page.getElementById("results"));
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
  if (seconds < 0) return "in the future";
  if (seconds < 60) return Math.floor(seconds) + " s ago";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
  if (seconds < 48 * 3600) return Math.floor(seconds / 3600) + " h ago";
  return Math.floor(seconds / 86400) + " d ago";
}

setInterval(() => {
  for (const time of document.querySelectorAll("td time")) {
    time.textContent = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
  }
}, 10000);
