// Comfort only: every page works without it.
(function () {
  "use strict";
  var typing = function (element) {
    return element && (/^(INPUT|SELECT|TEXTAREA)$/.test(element.tagName) || element.isContentEditable);
  };
  document.addEventListener("keydown", function (event) {
    if (event.key === "/" && !typing(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey) {
      var search = document.getElementById("search");
      if (search) {
        event.preventDefault();
        search.focus();
        search.select();
      }
    }
    if (event.key === "Escape") {
      document.querySelectorAll("details.menu[open]").forEach(function (menu) { menu.open = false; });
    }
  });
  document.addEventListener("click", function (event) {
    document.querySelectorAll("details.menu[open]").forEach(function (menu) {
      if (!menu.contains(event.target)) { menu.open = false; }
    });
    var copy = event.target.closest("[data-copy]");
    if (copy && navigator.clipboard) {
      navigator.clipboard.writeText(copy.getAttribute("data-copy")).then(function () {
        var before = copy.textContent;
        copy.textContent = copy.getAttribute("data-copied");
        window.setTimeout(function () { copy.textContent = before; }, 2000);
      });
    }
  });
  // A filter is applied as soon as it is chosen; the button stays for those without scripts.
  document.addEventListener("change", function (event) {
    var form = event.target.closest("form[data-auto]");
    if (form && event.target.name) { form.requestSubmit(); }
  });
  // Browsers open six connections to a server, all tabs together, and a stream holds one: hidden tabs give theirs back.
  var streams = [];
  var resting = [];
  if (window.htmx) {
    window.htmx.createEventSource = function (address) {
      var stream = new EventSource(address);
      streams.push(stream);
      return stream;
    };
  }
  document.addEventListener("visibilitychange", function () {
    if (document.hidden) {
      resting = streams.filter(function (stream) { return stream.readyState !== EventSource.CLOSED; });
      streams = [];
      resting.forEach(function (stream) { stream.close(); });
    } else {
      // The extension opens a closed stream again when it hears of an error on it.
      resting.forEach(function (stream) { if (stream.onerror) { stream.onerror(new Event("error")); } });
      resting = [];
    }
  });
  // On a phone the menu is a strip: the present room must not be outside of it.
  var room = document.querySelector(".side [aria-current]");
  var strip = document.querySelector(".side");
  if (room && strip.scrollWidth > strip.clientWidth) {
    strip.scrollLeft = room.offsetLeft - (strip.clientWidth - room.offsetWidth) / 2;
  }
})();
