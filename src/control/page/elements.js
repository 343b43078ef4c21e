// Elements. All text gets into the page as text, by `textContent` alone, and only
// where it is another than before.

const byId = (id) => document.getElementById(id);

/** `make('td', 'num', …)`: an element, its classes, what is in it. */
function make(name, classes = '', ...content) {
  const node = document.createElement(name);
  if (classes) node.className = classes;
  node.append(...content);
  return node;
}

function say(node, text) {
  if (node.said === text) return;
  node.said = text;
  node.textContent = text;
}

function attribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

function classed(node, classes) {
  if (node.className !== classes) node.className = classes;
}

function hide(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

const kept = new WeakMap();

/**
 * Has one child in `parent` for each item, in their order. One that was there
 * before stays the same element: who reads or stands on it loses nothing.
 */
function keep(parent, items, key, create, update) {
  const before = kept.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    let name = key(item);
    while (now.has(name)) name += '\n';
    now.set(name, { item, row: before.get(name) });
  }
  for (const [name, row] of before) if (!now.has(name)) row.node.remove();
  let next = parent.firstChild;
  for (const [name, { item, row: known }] of now) {
    const row = known ?? create(item);
    if (row.node === next) next = next.nextSibling;
    else parent.insertBefore(row.node, next);
    update(row, item);
    now.set(name, row);
  }
  kept.set(parent, now);
}

/**
 * A table. A column: `name`, `hint`, `kind` (its classes), and `show(cell, item)`,
 * which gives the cell's text or fills it itself; the first one names the row.
 * Roles are written out: on a phone rows are no rows to the style any more.
 */
function table(title, columns, classes = '') {
  const head = make('tr');
  attribute(head, 'role', 'row');
  for (const { name, hint, kind = '' } of columns) {
    const cell = make('th', kind, name);
    attribute(cell, 'scope', 'col');
    attribute(cell, 'role', 'columnheader');
    if (hint) cell.title = hint;
    head.append(cell);
  }
  const [top, body] = [make('thead', '', head), make('tbody')];
  const node = make('table', classes, make('caption', '', title), top, body);
  attribute(node, 'role', 'table');
  for (const part of [top, body]) attribute(part, 'role', 'rowgroup');

  function create() {
    const row = make('tr');
    row.tabIndex = -1;
    attribute(row, 'role', 'row');
    const cells = columns.map(({ name, kind = '', label = name }, at) => {
      const cell = make(at === 0 ? 'th' : 'td', kind);
      attribute(cell, 'role', at === 0 ? 'rowheader' : 'cell');
      if (at === 0) attribute(cell, 'scope', 'row');
      else if (label) attribute(cell, 'data-label', label);
      row.append(cell);
      return cell;
    });
    return { node: row, cells };
  }

  function update(row, item) {
    for (const [at, { show }] of columns.entries()) {
      const text = show(row.cells[at], item);
      if (text === undefined) continue;
      say(row.cells[at], text);
      // Where every cell has its name beside it, it is left out.
      row.cells[at].toggleAttribute('data-none', text === NONE);
    }
  }

  return {
    node,
    rows: () => kept.get(body) ?? new Map(),
    fill: (items, key) => keep(body, items, key, create, update),
  };
}

/** A table of a section, or a sentence while there is nothing to put into it. */
function tableOrNot(place, made, items, key, sentence) {
  if (items.length === 0) {
    if (place.firstChild?.className !== 'empty') place.replaceChildren(make('p', 'empty', sentence));
    return;
  }
  if (place.firstChild !== made.node) place.replaceChildren(made.node);
  made.fill(items, key);
}
