// Search, filter and sort. Without this script, the page shows the same, in the order in which it came.
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

// What rows can be filtered by: a select has the name.
const properties = {
  kind: row => row.querySelector('.kind')?.textContent ?? '',
  zone: row => row.cells[3].firstChild.textContent.trim(),
  owner: row => row.querySelector('[data-owner]')?.dataset.owner ?? '',
  week: row => row.dataset.week ?? '',
};

// Offers what the rows have, and what the address asks for even if no row has it.
function fill(select, items) {
  const asked = inAddress(select);
  const names = new Map(Array.from(select.options, option => [option.value, option.text]));
  const values = new Set(items.map(item => item[select.name]));
  values.delete('');
  const isNumber = select.name === 'week';
  const sorted = [...values].sort((a, b) => (isNumber ? a - b : a < b ? -1 : 1));
  if (asked && !values.has(asked)) sorted.push(asked);
  select.replaceChildren(new Option('all', ''), ...sorted.map(value => new Option(names.get(value) ?? value, value)));
  select.value = asked;
  select.closest('.search').hidden = sorted.length === 0 || (sorted.length === 1 && values.size === 1 && !isNumber);
}

function enhance(section) {
  const table = section.querySelector('table');
  const body = table.tBodies[0];
  const search = section.querySelector('input');
  const filters = Array.from(section.querySelectorAll('select'));
  const found = section.querySelector('[role=status]');
  const clear = section.querySelector('.clear');
  const more = section.querySelector('.more');
  const items = Array.from(body.querySelectorAll('tr:not(.none)'), (row, place) => (
    // No word is found across the edge of two cells.
    { row, place, keys: [], text: searchable(Array.from(row.cells, cell => cell.textContent).join('\n')) }
  ));
  if (items.length === 0) return;
  for (const { name } of filters) for (const item of items) item[name] = properties[name](item.row);
  const elsewhere = Number(table.dataset.total) - items.length;
  let sorted = items;
  // Thousands of rows take long to lay out, and nobody reads them.
  const first = Number(table.dataset.first);
  let room = first;

  function told(count) {
    if (elsewhere > 0) return `${count} of the ${items.length} listed here found; ${elsewhere} more are only in the metrics`;
    if (table.dataset.counted > 0) return `${count} of ${items.length} found; ${table.dataset.counted} more only counted`;
    return `${count} of ${items.length} found`;
  }

  function show() {
    const words = searchable(search?.value ?? '').split(/\s+/).filter(Boolean);
    const chosen = filters.filter(filter => filter.value);
    const fitting = sorted.filter(item => (
      words.every(word => item.text.includes(word)) && chosen.every(filter => item[filter.name] === filter.value)
    ));
    const rows = document.createDocumentFragment();
    for (const item of fitting.slice(0, room)) rows.append(item.row);
    body.replaceChildren(rows);
    section.classList.remove('untouched');
    clear.hidden = words.length + chosen.length === 0;
    found.textContent = clear.hidden ? '' : told(fitting.length);
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
  if (search) search.closest('.search').hidden = false;
  const fields = search ? [search, ...filters] : filters;
  const applyAddress = () => {
    if (search) search.value = inAddress(search);
    for (const filter of filters) fill(filter, items);
    showAnew();
    for (const field of fields) field.dispatchEvent(new Event('change'));
  };
  for (const field of fields) {
    field.addEventListener('input', showAnew);
    field.addEventListener('input', keepWordsSoon);
  }
  clear.addEventListener('click', () => {
    for (const field of fields) field.value = '';
    for (const field of fields) field.dispatchEvent(new Event('input'));
    fields[0].focus();
  });
  // A shared link may be opened where the page is already. The links within the page set no field.
  window.addEventListener('hashchange', () => location.hash.includes('=') && applyAddress());
  more.addEventListener('click', () => {
    const next = room;
    room += MORE;
    show();
    // The button has moved or is gone, so the focus goes on to what it has shown.
    const row = body.rows[next];
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
  });
  applyAddress();
}

// A press on a bar filters the certificates by its week, and another one no longer does. Certificates that are only
// counted have no row, so a bar of nothing else cannot be pressed.
function enhanceTimeline(picture) {
  const week = document.querySelector('#week');
  if (week.closest('.search').hidden) return;
  const offered = new Set(Array.from(week.options, option => option.value));
  const bars = Array.from(picture.querySelectorAll('[data-week]')).filter(bar => offered.has(bar.dataset.week));
  const press = bar => {
    week.value = bar.dataset.week === week.value ? '' : bar.dataset.week;
    week.dispatchEvent(new Event('input'));
    if (week.value) document.querySelector('#certificates').scrollIntoView();
  };
  const mark = () => { for (const bar of bars) bar.setAttribute('aria-pressed', bar.dataset.week === week.value); };
  picture.setAttribute('role', 'group');
  for (const bar of bars) {
    bar.setAttribute('role', 'button');
    bar.setAttribute('tabindex', '0');
    bar.addEventListener('click', () => press(bar));
    bar.addEventListener('keydown', event => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      press(bar);
    });
  }
  for (const name of ['input', 'change']) week.addEventListener(name, mark);
  mark();
}

function inAddress(field) {
  return new URLSearchParams(location.hash.slice(1)).get(field.id) ?? '';
}

// A page that is loaded again, or a link that is shared, shows the same. Browsers refuse to change the address with
// every key.
let keeping;
function keepWordsSoon() {
  clearTimeout(keeping);
  keeping = setTimeout(() => {
    const words = new URLSearchParams();
    for (const field of document.querySelectorAll('.search input, .search select')) if (field.value) words.set(field.id, field.value);
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
  document.querySelectorAll('.timeline svg').forEach(enhanceTimeline);
  document.querySelector('#old button').addEventListener('click', () => location.reload());
  document.addEventListener('visibilitychange', tellAge);
  window.addEventListener('pageshow', tellAge);
  setInterval(tellAge, 600_000);
});
