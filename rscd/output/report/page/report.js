"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const svgNS = "http://www.w3.org/2000/svg";
  const view = at("view"), shapes = at("shapes"), swipe = at("swipe"), divider = at("divider");
  const worlds = [...document.querySelectorAll(".world")];
  const [W, H] = data.size;
  const SHIFT = 20;  // lines of the shift map are drawn so many times as long
  let zoom = 1, least = 1, x = 0, y = 0, width = 0, height = 0;

  for (const world of worlds) { world.style.width = W + "px"; world.style.height = H + "px"; }
  shapes.setAttribute("width", W); shapes.setAttribute("height", H); shapes.setAttribute("viewBox", `0 0 ${W} ${H}`);

  const place = () => {
    const slackX = width - W * zoom, slackY = height - H * zoom;
    x = slackX > 0 ? slackX / 2 : Math.min(0, Math.max(slackX, x));
    y = slackY > 0 ? slackY / 2 : Math.min(0, Math.max(slackY, y));
    for (const world of worlds) {
      world.style.transform = `translate(${x}px,${y}px) scale(${zoom})`;
      world.classList.toggle("near", zoom > 2);
    }
    shapes.style.setProperty("--thin", 1 / zoom);
  };
  const zoomTo = (to, px = width / 2, py = height / 2) => {
    to = Math.min(16, Math.max(least, to));
    x = px - (px - x) * to / zoom; y = py - (py - y) * to / zoom; zoom = to;
    place();
  };
  const split = () => {
    const share = Number(swipe.value);
    at("after-clip").style.clipPath = `inset(0 0 0 ${share}%)`;
    divider.style.left = share + "%";
    swipe.setAttribute("aria-valuetext", `${Math.round(share)} % before`);
  };
  const fit = () => {
    width = view.clientWidth;
    height = Math.max(320, Math.min(width * H / W, window.innerHeight * 0.78));
    view.style.height = height + "px";
    least = Math.min(width / W, height / H); zoom = least;
    place(); split();
  };

  const colour = (p) => data.steps.reduce((found, [low, rgb]) => (p >= low ? rgb : found), data.steps[0][1]);
  const number = (value, unit) => {
    if (value === null) return "not known";
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (typeof value === "string") return value === "" ? "none yet" : value;
    if (unit === "°") return value.toFixed(6);
    const size = Math.abs(value);
    return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : 3 });
  };
  const entry = (list, name, value, swatch) => {
    const term = document.createElement("dt"), detail = document.createElement("dd");
    term.textContent = name; detail.textContent = value;
    if (swatch) {
      const box = document.createElement("span");
      box.className = "swatch"; box.style.background = `rgb(${swatch.map(Math.round).join(",")})`;
      box.title = value; detail.textContent = ""; detail.append(box);
    }
    list.append(term, detail);
  };
  let pinned = null;
  const tell = (i) => {
    const facts = at("facts"), row = data.rows[i];
    facts.textContent = "";
    at("hint").textContent = pinned === i ? "Chosen; click elsewhere on the map to let go." : "";
    for (const [name, triple] of data.colours) entry(facts, name, triple.map((k) => number(row[k])).join(", "), triple.map((k) => row[k]));
    data.columns.forEach(([name, unit, shown], k) => {
      if (shown) entry(facts, name, number(row[k], unit) + (unit && row[k] !== null ? " " + unit : ""));
    });
    for (const path of paths) path.classList.toggle("on", Number(path.dataset.i) === i);
    for (const line of document.querySelectorAll("tr[data-i]")) line.classList.toggle("on", Number(line.dataset.i) === i);
  };
  const clear = () => {
    if (pinned !== null) { tell(pinned); return; }
    at("facts").textContent = ""; at("hint").textContent = data.hint;
    for (const path of paths) path.classList.remove("on");
    for (const line of document.querySelectorAll("tr.on")) line.classList.remove("on");
  };
  const paths = data.paths.map((d, i) => {
    const path = document.createElementNS(svgNS, "path");
    const way = data.rows[i][data.direction];
    if (way) path.classList.add(way);
    path.setAttribute("d", d); path.dataset.i = i; path.setAttribute("fill", `rgb(${colour(data.rows[i][data.mean])})`);
    path.addEventListener("pointerenter", () => tell(i));
    path.addEventListener("pointerleave", clear);
    shapes.append(path);
    return path;
  });
  for (const [cx, cy, dx, dy] of data.shifts) {
    const line = document.createElementNS(svgNS, "line"), dot = document.createElementNS(svgNS, "circle");
    Object.entries({ x1: cx, y1: cy, x2: cx + SHIFT * dx, y2: cy + SHIFT * dy, class: "shift" }).forEach(([k, v]) => line.setAttribute(k, v));
    Object.entries({ cx, cy, r: W / 400, class: "shift" }).forEach(([k, v]) => dot.setAttribute(k, v));
    shapes.append(line, dot);
  }
  const goTo = (i) => {
    const box = paths[i].getBBox();
    zoom = Math.min(8, Math.max(least, 0.3 * Math.min(width / Math.max(box.width, 8), height / Math.max(box.height, 8))));
    x = width / 2 - (box.x + box.width / 2) * zoom; y = height / 2 - (box.y + box.height / 2) * zoom;
    place(); pinned = i; tell(i);
    view.scrollIntoView({ block: "nearest" });
  };

  let drag = null;
  view.addEventListener("pointerdown", (event) => {
    const handle = divider.contains(event.target);
    drag = { handle, px: event.clientX, py: event.clientY, x, y, moved: false, target: event.target };
    view.setPointerCapture(event.pointerId); view.classList.add("drag");
  });
  view.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const dx = event.clientX - drag.px, dy = event.clientY - drag.py;
    drag.moved = drag.moved || Math.hypot(dx, dy) > 4;
    if (drag.handle) {
      swipe.value = 100 * (event.clientX - view.getBoundingClientRect().left) / width; split();
    } else if (drag.moved) { x = drag.x + dx; y = drag.y + dy; place(); }
  });
  const release = () => {
    if (drag && !drag.moved && !drag.handle) {
      const i = drag.target.dataset && drag.target.dataset.i;
      pinned = i === undefined ? null : Number(i);
      clear();
    }
    drag = null; view.classList.remove("drag");
  };
  view.addEventListener("pointerup", release);
  view.addEventListener("pointercancel", release);
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const box = view.getBoundingClientRect();
    zoomTo(zoom * Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });

  swipe.addEventListener("input", split);
  at("closer").addEventListener("click", () => zoomTo(zoom * 1.6));
  at("wider").addEventListener("click", () => zoomTo(zoom / 1.6));
  at("fit").addEventListener("click", fit);
  at("show-shapes").addEventListener("change", (event) => shapes.classList.toggle("no-shapes", !event.target.checked));
  at("show-heat").addEventListener("change", (event) => { at("heat").hidden = !event.target.checked; });
  const shifts = at("show-shifts");
  const showShifts = () => {
    shapes.classList.toggle("no-shifts", !shifts.checked);
    at("shift-words").hidden = !shifts.checked;
  };
  if (shifts) { shifts.addEventListener("change", showShifts); showShifts(); }
  for (const button of document.querySelectorAll("button[data-i]")) button.addEventListener("click", () => goTo(Number(button.dataset.i)));
  // On paper the dates lie side by side, both with the outlines.
  at("sheet").querySelectorAll("figure").forEach((figure, k) => {
    const picture = document.createElement("img"), outlines = document.createElementNS(svgNS, "svg");
    picture.src = at(["before", "after"][k]).src; picture.alt = "";
    outlines.setAttribute("viewBox", `0 0 ${W} ${H}`);
    for (const path of paths) outlines.append(path.cloneNode());
    figure.append(picture, outlines);
  });
  window.addEventListener("resize", fit);
  fit();
  document.documentElement.dataset.ready = "yes";
})();
