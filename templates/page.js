// Search and sort. Without this script, the page shows the same, in the order in which it came.
'use strict';

document.documentElement.classList.add('scripted');

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

function enhance(section) {
  const table = section.querySelector('table');
  const body = table.tBodies[0];
  const search = section.querySelector('input');
  const found = section.querySelector('[role=status]');
  const more = section.querySelector('.more');
  const items = Array.from(body.querySelectorAll('tr:not(.none)'), (row, place) => (
    { row, place, keys: [], text: row.textContent.toLowerCase() }
  ));
  if (items.length === 0) return;
  let sorted = items;
  // Thousands of rows take long to lay out, and nobody reads them.
  let room = Number(table.dataset.first);

  function show() {
    const words = (search?.value ?? '').toLowerCase().split(/\s+/).filter(Boolean);
    const fitting = words.length === 0 ? sorted : sorted.filter(item => words.every(word => item.text.includes(word)));
    const rows = document.createDocumentFragment();
    for (const item of fitting.slice(0, room)) rows.append(item.row);
    body.replaceChildren(rows);
    section.classList.remove('untouched');
    found.textContent = words.length === 0 ? '' : `${fitting.length} of ${items.length} found`;
    more.textContent = `Show all ${fitting.length}`;
    more.hidden = fitting.length <= room;
  }

  function sortBy(header) {
    const descending = header.getAttribute('aria-sort') === 'ascending';
    const order = orders[header.dataset.sort](header.cellIndex);
    // Equals stay in the order in which they came.
    sorted = [...items].sort((a, b) => (descending ? order(b, a) : order(a, b)) || a.place - b.place);
    for (const other of header.parentElement.cells) other.removeAttribute('aria-sort');
    header.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    show();
  }

  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...header.childNodes);
    button.addEventListener('click', () => sortBy(header));
    header.append(button);
  }
  search?.addEventListener('input', show);
  more.addEventListener('click', () => {
    room = Infinity;
    show();
    // The button is gone, so the focus goes on to what it has shown.
    const next = body.rows[Number(table.dataset.first)];
    next.tabIndex = -1;
    next.focus({ preventScroll: true });
  });
  show();
}

document.addEventListener('DOMContentLoaded', () => document.querySelectorAll('.untouched').forEach(enhance));
