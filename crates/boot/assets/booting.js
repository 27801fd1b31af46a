
(function () {
  'use strict';
  var link = document.getElementById('link');
  var calm = link.textContent;
  // Not location.href: an address with a user's name in it cannot be fetched.
  var address = location.origin + location.pathname + location.search;

  // Brings `old` to what `fresh` is, changing only what differs: what is selected stays so, and bars move instead of jumping.
  function bring(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) { old.replaceWith(fresh); return; }
    if (old.nodeType === 3) { if (old.data !== fresh.data) old.data = fresh.data; return; }
    if (old.id === 'link') return;
    Array.from(fresh.attributes).forEach(function (a) { if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value); });
    var news = Array.from(fresh.childNodes), olds = Array.from(old.childNodes);
    news.forEach(function (child, at) { if (olds[at]) bring(olds[at], child); else old.append(child); });
    olds.slice(news.length).forEach(function (child) { child.remove(); });
  }

  function end() {
    var output = document.getElementById('output');
    return !output || output.scrollTop + output.clientHeight >= output.scrollHeight - 4;
  }

  function toEnd() {
    var output = document.getElementById('output');
    if (output) output.scrollTop = output.scrollHeight;
  }

  function show(text) {
    var stay = !end();
    bring(document.querySelector('main'), new DOMParser().parseFromString(text, 'text/html').querySelector('main'));
    if (!stay) toEnd();
    link.textContent = calm;
  }

  function look() {
    fetch(address, { headers: { Accept: 'text/html' }, cache: 'no-store', redirect: 'manual' }).then(function (answer) {
      // An answer that is not the boot's own is the portal's: this page has done its work.
      if (!answer.headers.get('X-Vast-Boot-Status') || answer.status !== 503) { location.reload(); return; }
      return answer.text().then(show).then(later);
    }).catch(function () {
      link.textContent = 'No answer just now; this page keeps looking. Reload it if the certificate has changed.';
      later();
    });
  }

  function later() { setTimeout(look, document.hidden ? 3000 : 1000); }

  toEnd();
  later();
})();
