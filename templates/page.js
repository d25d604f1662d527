// Search and sort. Without this script, the page shows the same, in the order in which it came.
'use strict';

document.documentElement.classList.add('scripted');

// Rows that are shown with every press of a button.
const MORE = 500;

// By the clock of who looks, which need not agree with that of the exporter.
const loaded = Date.now();

// What a cell is sorted by: what it says, or a number that it carries because it says it in words.
const orders = {
  place: () => (a, b) => a.place - b.place,
  text: column => {
    const key = cached(column, cell => sortable(cell.firstChild?.textContent ?? ''));
    return (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
  },
  number: column => {
    const key = cached(column, cell => Number(cell.dataset.value ?? cell.textContent));
    return (a, b) => key(a) - key(b);
  },
};

// With numbers in their order and accents behind their letters. Intl.Collator does so too, and takes longer.
function sortable(text) {
  return text.trim().toLowerCase().normalize('NFKD').replace(/\d+/g, digits => digits.padStart(20, '0'));
}

function cached(column, read) {
  return item => (item.keys[column] ??= read(item.row.cells[column]));
}

// Whoever searches need not know the accents.
function searchable(text) {
  return text.toLowerCase().normalize('NFKD').replace(/\p{M}+/gu, '');
}

function enhance(section) {
  const table = section.querySelector('table');
  const body = table.tBodies[0];
  const search = section.querySelector('input');
  const found = section.querySelector('[role=status]');
  const more = section.querySelector('.more');
  const items = Array.from(body.querySelectorAll('tr:not(.none)'), (row, place) => (
    // No word is found across the edge of two cells.
    { row, place, keys: [], text: searchable(Array.from(row.cells, cell => cell.textContent).join('\n')) }
  ));
  if (items.length === 0) return;
  const elsewhere = Number(table.dataset.total) - items.length;
  let sorted = items;
  // Thousands of rows take long to lay out, and nobody reads them.
  const first = Number(table.dataset.first);
  let room = first;

  function told(count) {
    if (elsewhere === 0) return `${count} of ${items.length} found`;
    return `${count} of the ${items.length} listed here found; ${elsewhere} more are only in the metrics`;
  }

  function show() {
    const words = searchable(search?.value ?? '').split(/\s+/).filter(Boolean);
    const fitting = words.length === 0 ? sorted : sorted.filter(item => words.every(word => item.text.includes(word)));
    const rows = document.createDocumentFragment();
    for (const item of fitting.slice(0, room)) rows.append(item.row);
    body.replaceChildren(rows);
    section.classList.remove('untouched');
    found.textContent = words.length === 0 ? '' : told(fitting.length);
    const left = fitting.length - room;
    more.textContent = left > MORE ? `Show ${MORE} more of ${left}` : `Show ${left} more`;
    more.hidden = left <= 0;
  }

  // With whatever was shown before, every key would take as long as that did.
  function showAnew() {
    room = first;
    show();
  }

  function sortBy(header) {
    const descending = header.getAttribute('aria-sort') === 'ascending';
    const order = orders[header.dataset.sort](header.cellIndex);
    // Equals stay in the order in which they came.
    sorted = [...items].sort((a, b) => (descending ? order(b, a) : order(a, b)) || a.place - b.place);
    for (const other of header.parentElement.cells) other.removeAttribute('aria-sort');
    header.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    showAnew();
  }

  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...header.childNodes);
    button.addEventListener('click', () => sortBy(header));
    header.append(button);
  }
  if (search) {
    search.closest('[hidden]').hidden = false;
    search.value = new URLSearchParams(location.hash.slice(1)).get(search.id) ?? '';
    search.addEventListener('input', showAnew);
    search.addEventListener('input', keepWordsSoon);
  }
  more.addEventListener('click', () => {
    const next = room;
    room += MORE;
    show();
    // The button has moved or is gone, so the focus goes on to what it has shown.
    const row = body.rows[next];
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
  });
  show();
}

// A page that is loaded again searches for the same. Browsers refuse to change the address with every key.
let keeping;
function keepWordsSoon() {
  clearTimeout(keeping);
  keeping = setTimeout(() => {
    const words = new URLSearchParams();
    for (const field of document.querySelectorAll('.search input')) if (field.value) words.set(field.id, field.value);
    const hash = String(words);
    history.replaceState(null, '', hash ? `#${hash}` : location.pathname + location.search);
  }, 300);
}

// A page that was left open tells what was so then.
function tellAge() {
  const minutes = Math.floor((Date.now() - loaded) / 60_000);
  const notice = document.querySelector('#old');
  notice.hidden = minutes < 10;
  const [count, unit] = minutes < 60 ? [minutes, 'minute'] : [Math.floor(minutes / 60), 'hour'];
  const words = `This page is ${count} ${unit}${count === 1 ? '' : 's'} old.`;
  // A screen reader says it again whenever it is written.
  const text = notice.firstElementChild;
  if (!notice.hidden && text.textContent !== words) text.textContent = words;
}

document.addEventListener('DOMContentLoaded', () => {
  document.querySelectorAll('.untouched').forEach(enhance);
  document.querySelector('#old button').addEventListener('click', () => location.reload());
  document.addEventListener('visibilitychange', tellAge);
  window.addEventListener('pageshow', tellAge);
  setInterval(tellAge, 600_000);
});
