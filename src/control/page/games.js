// Games, with their listeners, rules, groups and backends.

/** Up to so many backends everything is unfolded at first. */
const FEW = 60;

const meters = new Map();

/** The meter of one thing; by its name, so that it survives a reload as its counters do. */
function meter(key) {
  if (!meters.has(key)) meters.set(key, new Meter());
  return meters.get(key);
}

/** Reads the counters of everything, and notes what they say. */
function measure(status) {
  const { now } = status;
  const all = [];
  const seen = new Set();
  const read = (key, counted, took) => {
    seen.add(key);
    const one = meter(key);
    one.note(now, counted ?? {}, took);
    return one.read();
  };
  for (const game of status.games) {
    const own = [read(JSON.stringify([game.name]), game.requests, game.requests?.took)];
    for (const group of game.groups) {
      group.numbers = read(JSON.stringify([game.name, group.name]), group.requests, group.requests?.took);
      own.push(group.numbers);
      for (const backend of group.backends) {
        const key = JSON.stringify([game.name, group.name, backend.name, backend.address]);
        backend.numbers = read(key, backend.attempts, backend.attempts?.header);
      }
    }
    game.numbers = together(own);
    all.push(game.numbers);
  }
  all.push(read('', status.requests, status.requests?.took));
  status.numbers = together(all);
  for (const key of meters.keys()) if (!seen.has(key)) meters.delete(key);
}

const sum = (list, of) => list.reduce((all, one) => all + (of(one) ?? 0), 0);
const players = (group) => (group.sticky ? sum(group.backends, (one) => one.players) : undefined);
const tunnels = (group) => sum(group.backends, (one) => one.tunnels);

/** `12 requests/s`, its number to be changed. */
function stat(unit) {
  const number = make('b', '', NONE);
  const node = make('span', 'stat', number, ` ${unit}`);
  return {
    node,
    show(value, text, bad = false) {
      say(number, text);
      classed(node, `stat${bad ? ' bad' : value === undefined ? ' none' : value ? '' : ' off'}`);
    },
  };
}

const STATS = {
  requests: 'requests/s',
  errors: 'errors/s',
  p50: 'p50',
  p99: 'p99',
  players: 'players',
  tunnels: 'WebSockets',
};

function stats() {
  const all = Object.entries(STATS).map(([name, unit]) => [name, stat(unit)]);
  return { ...Object.fromEntries(all), node: make('span', 'stats', ...all.map(([, { node }]) => node)) };
}

function showStats(shown, numbers, playing, open) {
  shown.requests.show(numbers.rate, rate(numbers.rate));
  shown.errors.show(numbers.errors, rate(numbers.errors), numbers.errors > 0);
  shown.p50.show(numbers.p50, latency(numbers.p50));
  shown.p99.show(numbers.p99, latency(numbers.p99));
  shown.players.show(playing, count(playing));
  shown.tunnels.show(open, count(open));
}

const BACKENDS = [
  {
    name: 'Backend',
    show(cell, { name, address, backup, weight }) {
      const parts = [name];
      if (address !== name) parts.push(address);
      const more = [backup && 'backup', weight !== 100 && `weight ${weight}`].filter(Boolean).join(', ');
      return fill(cell, [['mono', parts.join(' ')], ['soft', more]]);
    },
  },
  {
    name: 'State',
    kind: 'wide',
    label: '',
    show(cell, { condition: { word, level, why, since: from }, now }) {
      cell.title = why;
      return fill(cell, [[`tag ${level === 'good' && word !== 'up' ? 'off' : level}`, word], ['soft', from ? span(now - from) : '']]);
    },
  },
  {
    name: 'Last probe',
    label: 'probe',
    show(cell, { probe, now }) {
      const last = probe?.last;
      if (!last) return probe ? 'none yet' : NONE;
      cell.title = `${last.detail ?? ''} at ${clock(last.at, now)}; in a row: ${probe.good_in_a_row} good, ${probe.bad_in_a_row} bad`;
      const answer = last.good ? (last.status ?? 'good') : (last.cause ?? last.status ?? 'bad');
      const old = now - last.at > 10 ? `, ${span(now - last.at)} ago` : '';
      return `${answer} in ${latency(last.milliseconds)}${old}`;
    },
  },
  {
    name: 'Last failure',
    label: 'failed',
    hint: 'Of a request there',
    show: (cell, { last_failure: last, now }) => (last ? `${last.cause}, ${span(now - last.at)} ago` : NONE),
  },
  { name: 'Req/s', kind: 'num', show: (cell, { numbers }) => rate(numbers.rate) },
  {
    name: 'Err/s',
    kind: 'num',
    hint: 'Answers of 500 and up, and attempts that failed; clients that leave are no errors',
    show(cell, { numbers }) {
      classed(cell, numbers.errors > 0 ? 'num bad' : 'num');
      return rate(numbers.errors);
    },
  },
  { name: 'p50', kind: 'num', hint: 'To the header of the response', show: (cell, { numbers }) => latency(numbers.p50) },
  { name: 'p99', kind: 'num', hint: 'To the header of the response', show: (cell, { numbers }) => latency(numbers.p99) },
  { name: 'Players', kind: 'num', hint: 'Clients of the last five minutes', show: (cell, one) => count(one.players) },
  { name: 'WebSockets', kind: 'num', show: (cell, one) => count(one.tunnels) },
];

/** Has these spans in a cell: `[classes, text]` each. */
function fill(cell, parts) {
  while (cell.children.length < parts.length) {
    if (cell.children.length) cell.append(' ');
    cell.append(make('span'));
  }
  for (const [at, [classes, text]] of parts.entries()) {
    classed(cell.children[at], classes);
    say(cell.children[at], text);
  }
  return undefined;
}

const LISTENERS = [
  {
    name: 'Listener',
    kind: 'mono',
    show: (cell, one) => [...one.domains, ...(one.default ? ['(all other domains)'] : [])].join(' '),
  },
  { name: 'Ports', kind: 'short', label: 'ports', show: (cell, one) => `${one.address ? `${one.address}: ` : ''}${one.ports.join(' ')}` },
  { name: 'Protocol', kind: 'short', label: '', show: (cell, one) => `${one.protocol}${one.http2 ? ', HTTP/2' : ''}` },
  {
    name: 'Rules',
    kind: 'wide',
    label: '',
    show(cell, one) {
      cell.list ??= cell.appendChild(make('ul', 'rules mono'));
      keep(cell.list, one.rules, (rule) => rule.path, () => ({ node: make('li') }), (row, rule) => say(row.node, `${rule.path} → ${rule.to}`));
      return undefined;
    },
  },
];

function createGroup() {
  const [name, about, state, numbers] = [make('span'), make('small'), make('span', 'state'), stats()];
  const rows = table('Backends', BACKENDS, 'backends');
  const node = make('section', 'group', make('h3', '', name, state, about, numbers.node), rows.node);
  return { node, name, about, state, numbers, rows };
}

function updateGroup(made, { group, backends, now }) {
  say(made.name, group.name);
  attribute(made.node, 'aria-label', `Group ${group.name}`);
  classed(made.state, `state ${group.condition.level}`);
  say(made.state, group.condition.word);
  const sticky = group.sticky ? `sticky: ${group.sticky.mode} ${group.sticky.cookie}` : '';
  say(made.about, [group.balance, group.protocol !== 'http' && group.protocol, sticky].filter(Boolean).join(', '));
  showStats(made.numbers, group.numbers, players(group), tunnels(group));
  for (const backend of backends) backend.now = now;
  made.rows.fill(backends, (one) => `${one.name} ${one.address}`);
}

function createGame(game) {
  const [name, state, numbers] = [make('span', 'name'), make('span', 'state'), stats()];
  const summary = make('summary', '', name, state, numbers.node);
  const inside = make('div', 'inside');
  const node = make('details', 'game', summary, inside);
  const made = { node, name, state, numbers, inside, game };
  // What is folded is not even made.
  node.addEventListener('toggle', () => updateInside(made));
  return made;
}

function updateInside(made) {
  if (!made.node.open || !made.view) return;
  const { game, groups, now } = made.view;
  if (!made.listeners) {
    made.listeners = table('Listeners', LISTENERS, 'listeners');
    made.groups = make('div');
    made.inside.append(made.listeners.node, made.groups);
  }
  made.listeners.fill(game.listeners ?? [], (one) => JSON.stringify([one.name, one.address, one.protocol]));
  keep(made.groups, groups.map((one) => ({ ...one, now })), ({ group }) => group.name, createGroup, updateGroup);
}

function updateGame(made, view) {
  const { game } = view;
  made.view = view;
  say(made.name, game.name);
  classed(made.state, `state ${game.level}`);
  const words = game.groups.filter((group) => group.condition.level === game.level && game.level !== 'good');
  const backends = game.groups.flatMap((group) => group.backends);
  const serve = backends.filter((one) => one.condition.serves).length;
  const well = backends.length ? `${serve} of ${plural(backends.length, 'backend')} serve` : 'no backends';
  say(made.state, words.length ? some(words.map((group) => `${group.name}: ${group.condition.word}`), 2) : well);
  const sticky = game.groups.filter((group) => group.sticky);
  showStats(made.numbers, game.numbers, sticky.length ? sum(sticky, players) : undefined, sum(game.groups, tunnels));
  updateInside(made);
}

/** What of the games is asked for by these words, and by whether it needs attention. */
function found(status, words, troubled) {
  const has = (text) => words.every((word) => text.includes(word));
  const views = [];
  for (const game of status.games) {
    const outer = `${game.name} ${(game.listeners ?? []).flatMap((one) => [...one.domains, ...one.ports, ...one.rules.map((rule) => rule.path)]).join(' ')}`.toLowerCase();
    const groups = [];
    for (const group of game.groups) {
      const own = `${outer} ${group.name.toLowerCase()}`;
      const backends = group.backends.filter(
        (one) => (!troubled || one.condition.level !== 'good') && has(`${own} ${one.name} ${one.address} ${one.condition.word}`.toLowerCase()),
      );
      if (backends.length || (!troubled && has(own))) groups.push({ group, backends });
    }
    if (groups.length || (!troubled && has(outer))) views.push({ game, groups, now: status.now / 1000 });
  }
  return views;
}
