"use strict";
// Puts newer parts into the page.  Parts come from the server as it writes the page itself; of a
// log line only texts come, and stay texts.
(() => {
  const MOST = 100;
  const told = document.getElementById("live");
  const log = document.getElementById("log");
  const wanted = (name) => new URLSearchParams(location.search).get(name) || "";
  const client = wanted("client"), event = wanted("event");

  const busy = (place) => place.contains(document.activeElement)
    || (!getSelection().isCollapsed && place.contains(getSelection().anchorNode));

  const parts = (made) => {
    for (const [id, html] of Object.entries(made)) {
      const place = document.getElementById(id);
      // Not under somebody's hands: it comes with the next change.
      if (place && "live" in place.dataset && !busy(place)) {
        const scrolled = place.querySelector(".wide");
        const top = scrolled ? scrolled.scrollTop : 0;
        place.innerHTML = html;
        if (top) place.querySelector(".wide").scrollTop = top;
      }
    }
  };

  const lines = (fresh) => {
    for (const line of fresh) {
      if ((client && line[2] !== client) || (event && line[1] !== event)) continue;
      const row = document.createElement("li");
      line.forEach((text, number) => {
        const span = document.createElement("span");
        span.textContent = text || "-";
        if (number) row.append(" ");
        row.append(span);
      });
      log.prepend(row);
    }
    while (log.children.length > MOST) log.lastElementChild.remove();
  };

  if (!window.EventSource) return;
  const source = new EventSource("/events");
  source.onopen = () => { told.textContent = "Live."; };
  source.onerror = () => { told.textContent = "Not connected; trying again."; };
  source.addEventListener("parts", (message) => parts(JSON.parse(message.data)));
  if (log) source.addEventListener("lines", (message) => lines(JSON.parse(message.data)));
})();
