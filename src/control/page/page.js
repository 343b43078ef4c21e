// Asks, and shows what was answered.

const EVERY = 2000;
const PATIENCE = 5000;
/** The first rates come after this. */
const SOON = 700;

let status;
let timer;
let asking = false;
let heard;
let failedSince;
let why = '';

const filter = byId('filter');
const troubled = byId('troubled');

const FACTS = [
  ['version', (s) => s.version],
  ['process', (s) => String(s.pid)],
  ['generation', (s) => String(s.generation)],
  ['up', (s) => span((s.now - s.started) / 1000)],
  ['connections', (s) => count(s.connections)],
  ['WebSockets', (s) => count(s.tunnels)],
  ['players', (s) => count(sum(s.games, (game) => sum(game.groups, players)))],
  ['requests/s', (s) => rate(s.numbers.rate)],
  ['errors/s', (s) => rate(s.numbers.errors), (s) => s.numbers.errors > 0],
  ['p50', (s) => latency(s.numbers.p50)],
  ['p99', (s) => latency(s.numbers.p99)],
];

const RECENT = [
  { name: 'Time', kind: 'short', show: (cell, one) => clock(Date.parse(one.time) / 1000, status.now / 1000) },
  {
    name: 'Result',
    show(cell, one) {
      cell.title = one.detail ?? '';
      classed(cell, one.cause && one.status >= 500 ? 'bad' : '');
      return one.cause ? `${one.status} ${one.cause}${one.phase ? ` (${one.phase})` : ''}` : `${one.status} after ${plural(one.attempts?.length ?? 0, 'attempt')}`;
    },
  },
  { name: 'Group', label: '', show: (cell, one) => [one.game, one.group].filter(Boolean).join('/') || NONE },
  {
    name: 'Attempts',
    kind: 'wide',
    label: '',
    show: (cell, one) =>
      (one.attempts ?? []).map(({ backend, status: code, cause, ms }) => `${backend}: ${cause ?? code} (${latency(ms)})`).join(', ') || NONE,
  },
  { name: 'Request', kind: 'mono wide', label: '', show: (cell, one) => `${one.method ?? ''} ${one.host ?? ''}${one.path ?? ''}` },
  { name: 'Client', kind: 'mono', label: 'from', show: (cell, one) => one.client },
  { name: 'Id', kind: 'mono short', label: 'id', hint: 'lockgate why ID tells all of it', show: (cell, one) => one.request_id },
];

const CERTIFICATES = [
  { name: 'Listener', kind: 'mono', show: (cell, one) => one.listener },
  { name: 'Domains', kind: 'mono', label: '', show: (cell, one) => one.domains.join(' ') },
  { name: 'Ports', label: 'ports', show: (cell, one) => one.ports.join(' ') },
  { name: 'Expires', kind: 'short', label: 'expires', show: (cell, one) => day(one.expires) },
  {
    name: 'Days left',
    kind: 'num',
    label: 'days left',
    show(cell, one) {
      classed(cell, one.state === 'good' ? 'num' : 'num bad');
      return count(one.days_left);
    },
  },
];

const recent = table('Last failed and retried requests', RECENT);
const certificates = table('Certificates', CERTIFICATES);

function showFacts() {
  const create = ([name]) => {
    const value = make('dd');
    return { node: make('div', '', make('dt', '', name), value), value };
  };
  const update = (row, [, text, isBad]) => {
    say(row.value, text(status));
    classed(row.node, isBad?.(status) ? 'bad' : '');
  };
  keep(byId('facts'), FACTS, ([name]) => name, create, update);
}

/** Unfolds a game and goes to one of its backends. */
function goTo({ game, backend, group }) {
  filter.value = '';
  troubled.checked = false;
  showGames();
  const made = kept.get(byId('games')).get(game.name);
  made.node.open = true;
  updateInside(made);
  const shown = kept.get(made.groups).get(group.name);
  const row = backend && shown.rows.rows().get(`${backend.name} ${backend.address}`);
  const to = row?.node ?? shown.node;
  to.tabIndex = -1;
  to.scrollIntoView({ block: 'center' });
  to.focus({ preventScroll: true });
}

function createProblem(problem) {
  const [tag, what, reason, from] = [make('span'), make('span', 'what'), make('span', 'why'), make('span', 'since')];
  const row = { node: make('li', '', tag, what, reason, from), tag, what, reason, from };
  if (problem.group) {
    row.what = make('button', 'to');
    row.what.type = 'button';
    row.what.addEventListener('click', () => goTo(row.problem));
    what.append(row.what);
  }
  if (problem.more) row.more = row.node.appendChild(make('pre'));
  return row;
}

function updateProblem(row, problem) {
  row.problem = problem;
  classed(row.tag, `tag ${problem.level}`);
  say(row.tag, problem.tag);
  say(row.what, problem.what);
  say(row.reason, problem.why ?? '');
  say(row.from, problem.since ? `since ${since(problem.since, status.now / 1000)}` : '');
  if (row.more) say(row.more, problem.more);
}

function showProblems() {
  const all = problems(status);
  keep(byId('problem-list'), all, ({ key }) => key, createProblem, updateProblem);
  hide(byId('problems'), all.length === 0);
  const { level, text } = verdict(status);
  attribute(byId('verdict'), 'data-level', level);
  say(byId('verdict'), text);
}

let unfolded = false;

function showGames() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const narrowed = words.length > 0 || troubled.checked;
  const views = found(status, words, troubled.checked);
  const games = byId('games');
  keep(games, views, ({ game }) => game.name, createGame, updateGame);
  const rows = [...kept.get(games).values()];
  const backends = sum(status.games, (game) => sum(game.groups, (group) => group.backends.length));
  if (!unfolded && rows.length) {
    unfolded = true;
    for (const row of rows) row.node.open = backends <= FEW;
  }
  for (const row of rows) {
    if (narrowed && row.before === undefined) {
      row.before = row.node.open;
      row.node.open = true;
    } else if (!narrowed && row.before !== undefined) {
      row.node.open = row.before;
      row.before = undefined;
    }
  }
  const n = sum(views, ({ groups }) => sum(groups, (one) => one.backends.length));
  say(byId('filter-found'), narrowed ? `${count(n)} of ${plural(backends, 'backend')}` : '');
}

function createReload() {
  const [tag, text, more] = [make('span'), make('span'), make('pre')];
  return { node: make('details', '', make('summary', '', tag, text), more), tag, text, more };
}

function updateReload(row, reload) {
  const changed = reload.games.filter((game) => game.verdict === 'changed').length;
  const refused = reload.games.length - changed;
  const level = reload.good ? 'good' : reload.applied ? 'warn' : 'bad';
  classed(row.tag, `tag ${level}`);
  say(row.tag, reload.good ? 'reloaded' : reload.applied ? 'in part' : 'failed');
  const counts = [(changed || !refused) && plural(changed, 'game changed', 'games changed'), refused && `${refused} refused`, `${count(reload.unchanged)} as before`];
  say(row.text, `${since(reload.at, status.now / 1000)}: ${counts.filter(Boolean).join(', ')}, generation ${reload.generation}, ${latency(reload.milliseconds)}`);
  const lines = [...reload.diagnostics, ...reload.problems, ...reload.restart];
  for (const game of reload.games) lines.push(...game.changes.map((change) => `${game.game}: ${game.verdict === 'refused' ? 'refused: ' : ''}${change}`));
  if (reload.games_in_all > reload.games.length) lines.push(`and ${reload.games_in_all - reload.games.length} games more`);
  say(row.more, lines.join('\n') || 'Nothing changed.');
}

function showReloads() {
  const place = byId('reloads');
  const all = status.reloads ?? [];
  if (all.length === 0) {
    if (!place.firstChild) place.append(make('p', 'empty', 'None since the start.'));
    return;
  }
  if (place.firstChild?.className === 'empty') place.replaceChildren();
  keep(place, all, (one) => `${one.at} ${one.generation} ${one.milliseconds}`, createReload, updateReload);
}

const COLOURS = { good: '#1a7f37', note: '#2f5f9e', warn: '#b87700', bad: '#c4281c', silent: '#000' };

/** The tab says how it is, too: by its name and by a disc or a square. */
function showTab(level, text) {
  const shape = level === 'bad' || level === 'silent' ? '<rect x="1" y="1" width="14" height="14"/>' : '<circle cx="8" cy="8" r="7"/>';
  const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="${COLOURS[level]}">${shape}</svg>`;
  attribute(byId('icon'), 'href', `data:image/svg+xml,${encodeURIComponent(icon)}`);
  const title = level === 'good' ? `lockgate ${location.host}` : `${text} lockgate ${location.host}`;
  if (document.title !== title) document.title = title;
}

function show() {
  judge(status);
  measure(status);
  showFacts();
  showProblems();
  showGames();
  tableOrNot(byId('recent'), recent, status.recent ?? [], (one) => one.request_id, 'None since the start.');
  showReloads();
  tableOrNot(byId('certificates'), certificates, [...(status.certificates ?? [])].sort((one, other) => one.expires - other.expires), (one) => `${one.game} ${one.listener}`, 'No listener speaks HTTPS.');
  const { level, text } = verdict(status);
  showTab(level, text);
}

/** Says that nothing is answered; what is shown stays, and is said to be old. */
function showSilence() {
  document.body.classList.add('silent');
  const now = Date.now() / 1000;
  const last = heard ? ` What is shown is of ${clock(heard, now)}.` : '';
  say(byId('silence'), `lockgate does not answer since ${clock(failedSince, now)}: ${why}.${last}`);
  hide(byId('silence'), false);
  showTab('silent', 'No answer:');
}

/** lockgate did not answer, or not as it should. */
class Unanswered extends Error {}

async function ask() {
  try {
    const answer = await fetch('/status.json?compact', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Unanswered(`it says ${answer.status} ${(await answer.text()).trim()}`);
    return await answer.json();
  } catch (error) {
    if (error instanceof Unanswered) throw error;
    // A browser tells scripts no more of a connection that fails.
    throw new Unanswered(error.name === 'TimeoutError' ? `no answer within ${span(PATIENCE / 1000)}` : 'it cannot be reached');
  }
}

/** What is shown by mistake must not look true. */
function reason(error) {
  return error instanceof Unanswered ? error.message : `its answer cannot be shown (${error.message})`;
}

async function look() {
  clearTimeout(timer);
  if (asking || document.hidden) return;
  asking = true;
  const first = !status;
  try {
    take(await ask());
  } catch (error) {
    why = reason(error);
    failedSince ??= Date.now() / 1000;
    showSilence();
    if (!(error instanceof Unanswered)) throw error;
  } finally {
    asking = false;
    timer = setTimeout(look, first ? SOON : EVERY);
  }
}

function take(answer) {
  // Another process counts from its own start.
  if (status && (status.pid !== answer.pid || status.started !== answer.started)) meters.clear();
  // The page belongs to the program that sent it.
  if (status && status.version !== answer.version) location.reload();
  status = answer;
  show();
  heard = Date.now() / 1000;
  failedSince = undefined;
  document.body.classList.remove('silent');
  hide(byId('silence'), true);
}

const again = () => status && showGames();
filter.addEventListener('input', again);
troubled.addEventListener('change', again);
byId('search').addEventListener('submit', (event) => event.preventDefault());
for (const [id, open] of [['unfold', true], ['fold', false]]) {
  byId(id).addEventListener('click', () => {
    for (const node of byId('games').children) node.open = open;
  });
}
addEventListener('keydown', (event) => {
  if (event.key === '/' && event.target !== filter && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    filter.focus();
    filter.select();
  } else if (event.key === 'Escape' && event.target === filter) {
    filter.value = '';
    again();
  }
});
document.addEventListener('visibilitychange', look);
say(byId('where'), location.host);
look();
