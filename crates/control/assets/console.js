/* What the console does beyond plain pages: it brings news into them. Everything works without it. */
"use strict";

(() => {
  const body = document.body;

  /* --- one stream a browser ------------------------------------------------------------------------------------------
     Whichever tab that is seen holds the lock has the stream, and tells the others through a channel. A tab that joins, or
     was away, asks the leader where it is, and asks for its page anew if it has missed something. */

  const listeners = new Map();
  let place = body.dataset.live || "";
  let source = null;
  let release = null;
  let waiting = null;
  let retry = 1000;
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("batoff-live") : null;

  const on = (name, act) => { listeners.set(name, (listeners.get(name) || new Set()).add(act)); };
  const emit = (name, data) => (listeners.get(name) || []).forEach((act) => act({ type: name, data }));
  const say = (state) => { document.querySelectorAll("[data-live-state]").forEach((it) => { it.dataset.liveState = state; it.hidden = false; }); };

  function receive(name, data, id) {
    if (id) place = id;
    emit(name, data);
  }

  function connect() {
    source = new EventSource("/live?after=" + encodeURIComponent(place));
    source.onopen = () => { retry = 1000; tellState("on"); };
    source.onerror = () => {
      tellState("lost");
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(() => { if (release && !source) connect(); }, retry);
        retry = Math.min(retry * 2, 30000);
      }
    };
    for (const name of ["rows", "refresh"]) {
      source.addEventListener(name, (event) => {
        const message = { name, data: event.data, id: event.lastEventId };
        if (channel) channel.postMessage(message);
        receive(name, event.data, event.lastEventId);
      });
    }
  }

  function tellState(state) {
    if (channel) channel.postMessage({ state });
    say(state);
  }

  function lead() {
    if (release || waiting || document.hidden) return;
    if (!navigator.locks) {
      release = () => {};
      connect();
      return;
    }
    waiting = new AbortController();
    navigator.locks.request("batoff-live", { signal: waiting.signal }, () => new Promise((resolve) => {
      waiting = null;
      release = resolve;
      connect();
    })).catch(() => {});
    if (channel) channel.postMessage({ hello: true });
  }

  function rest() {
    if (waiting) waiting.abort();
    waiting = null;
    if (source) source.close();
    source = null;
    if (release) release();
    release = null;
  }

  if (place && "EventSource" in window) {
    if (channel) {
      channel.onmessage = ({ data }) => {
        if (data.name) return receive(data.name, data.data, data.id);
        if (data.state) return say(data.state);
        if (data.hello && source) return channel.postMessage({ at: place, state: source.readyState === 1 ? "on" : "lost" });
        if (data.at && !source && data.at !== place) {
          place = data.at;
          emit("refresh", "");
        }
        if (data.at) say(data.state);
      };
    }
    document.addEventListener("visibilitychange", () => (document.hidden ? rest() : lead()));
    addEventListener("pagehide", rest);
    addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
    lead();
  }

  /* htmx's `sse-swap` and `hx-trigger="sse:…"` listen to the same stream. */
  if (window.htmx) {
    htmx.createEventSource = () => ({
      readyState: 1,
      addEventListener: (name, act) => on(name, act),
      removeEventListener: (name, act) => { const all = listeners.get(name); if (all) all.delete(act); },
      close() {},
    });
  }

  /* --- a table of purges ----------------------------------------------------------------------------------------------
     New rows come in at the top while nobody points at the table, has something in it selected or focused, or has scrolled
     on. Otherwise they wait, and are counted. Rows that are there are changed in their place. */

  const held = new Map();
  let paused = false;
  let due = false;

  const table = () => document.querySelector("[data-rows]");

  function isHeld(at) {
    if (paused || at.matches(":hover") || at.contains(document.activeElement)) return true;
    const selection = getSelection();
    return (selection && !selection.isCollapsed && at.contains(selection.anchorNode)) || at.getBoundingClientRect().top < 0;
  }

  function fits(row, at) {
    const { site, state, kind } = at.dataset;
    return (!site || row.dataset.site === site) && (!state || row.dataset.state === state) &&
      (!kind || row.dataset.kinds.split(" ").includes(kind));
  }

  function flush() {
    due = false;
    const at = table();
    if (!at) return held.clear();
    const rows = at.querySelector("tbody");
    if (!isHeld(at)) {
      for (const row of held.values()) {
        const known = document.getElementById(row.id);
        if (known) known.replaceWith(row);
        else if (at.dataset.rows === "newest" && fits(row, at)) rows.prepend(row);
      }
      held.clear();
      while (rows.rows.length > 50) rows.lastElementChild.remove();
      const empty = at.querySelector(".empty");
      if (empty) empty.hidden = rows.rows.length > 0;
    }
    const fresh = [...held.values()].filter((row) => !document.getElementById(row.id) && fits(row, at)).length;
    document.querySelectorAll("[data-held]").forEach((it) => {
      it.hidden = !(at.dataset.rows === "newest" && fresh > 0);
      it.textContent = it.dataset.held.replace("#", fresh > 50 ? "50+" : fresh);
    });
  }

  on("rows", ({ data }) => {
    const parsed = document.createElement("template");
    parsed.innerHTML = data;
    for (const row of parsed.content.querySelectorAll("tr[id]")) {
      held.delete(row.id);
      held.set(row.id, row);
      const shown = document.querySelector('[data-task="' + row.id.slice(2) + '"][hx-trigger]');
      if (shown && window.htmx) htmx.trigger(shown, "live");
    }
    while (held.size > 400) held.delete(held.keys().next().value);
    if (!due) { due = true; requestAnimationFrame(flush); }
  });

  on("refresh", () => {
    held.clear();
    document.querySelectorAll("[data-refresh]").forEach((it) => window.htmx && htmx.trigger(it, "refresh"));
  });

  for (const name of ["pointerout", "focusout", "scroll"]) {
    document.addEventListener(name, () => { if (held.size && !due) { due = true; setTimeout(flush, 120); } }, { passive: true, capture: true });
  }

  /* --- small things ---------------------------------------------------------------------------------------------------- */

  document.addEventListener("click", (event) => {
    const pause = event.target.closest("[data-pause]");
    if (pause) {
      paused = !paused;
      pause.setAttribute("aria-pressed", paused);
      pause.blur();
      flush();
    }
    const copy = event.target.closest("button.copy");
    if (copy) {
      navigator.clipboard.writeText(copy.parentElement.querySelector("pre, code, input").textContent).then(() => {
        const was = copy.textContent;
        copy.textContent = copy.dataset.copied;
        setTimeout(() => { copy.textContent = was; }, 1500);
      });
    }
  });
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    if (form && event.target.matches("select")) form.requestSubmit();
  });
  /* A filter's URL says what is filtered, and nothing else. */
  document.addEventListener("formdata", (event) => {
    if (event.target.method !== "get") return;
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
  /* A part that is asked for again and again rests while nobody sees it, and while something in it is selected. */
  document.addEventListener("htmx:beforeRequest", (event) => {
    const part = event.target.closest("[data-poll], #purge");
    if (!part) return;
    const selection = getSelection();
    const isSelected = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
    if (document.hidden || isSelected) event.preventDefault();
  });
  document.querySelectorAll("button.copy").forEach((it) => { it.hidden = !navigator.clipboard; });
  document.querySelectorAll("[data-pause]").forEach((it) => { it.hidden = false; });
})();
