// Puts in what the program sends. All of it is written and escaped there.
"use strict";
{
  const shown = document.getElementById("shown");
  const link = document.getElementById("link");
  const events = new EventSource("events");

  events.onmessage = (event) => {
    link.textContent = "";
    document.body.classList.remove("away");
    // whoever is marking a text to copy it keeps it
    if (!getSelection().isCollapsed) return;
    const open = [...shown.querySelectorAll("details[open]")].map((details) => details.id);
    const focused = document.activeElement?.closest("details")?.id;
    shown.innerHTML = event.data;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.querySelector("summary").focus();
  };

  events.onerror = () => {
    link.textContent = "The program does not answer: it has ended, or the network is away. What is below is old.";
    document.body.classList.add("away");
  };
}
