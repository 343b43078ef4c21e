'use strict';
// Chromium as an operator who looks at the admin page: `page.js ORIGIN -`. A line
// of the standard input is an order, below. Whatever the page does that it must
// not do is told by `clean`.

const { launch } = require('./chromium.js');
const { origin, obey, main } = require('./common.js');

const PATIENCE = 30_000;

const line = (text) => text.replace(/\s+/g, ' ').trim();

main(async () => {
  const browser = await launch();
  const complaints = [];
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
    page.on('dialog', (dialog) => {
      complaints.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on('request', (request) => {
      const known = [`${origin}/`, `${origin}/status.json?compact`];
      const url = request.url();
      if (!known.includes(url) && !url.startsWith('data:')) complaints.push(`request: ${url}`);
    });
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', ({ violatedDirective }) =>
        console.error(`violation: ${violatedDirective}`),
      );
    });

    /** The first of these elements with this text, once it is there and seen. */
    const seen = async (selector, words) => {
      const element = page.locator(selector).filter({ hasText: words.join(' ') }).first();
      await element.waitFor({ state: 'visible' });
      return element;
    };

    await obey({
      /** Opens the page and waits until it knows something. */
      async open() {
        await page.goto(`${origin}/`);
        await page.locator('#facts dd').first().waitFor();
        return line(await page.locator('#verdict').textContent());
      },

      /** From now on every text that lockgate tells has markup at its end, but levels. */
      async poison() {
        const poisoned = (key, value) => (typeof value === 'string' && key !== 'level' ? `${value}<img src=x onerror=alert(2)>` : value);
        await page.route('**/status.json?compact', async (route) => {
          const response = await route.fetch();
          await route.fulfill({ response, body: JSON.stringify(await response.json(), poisoned) });
        });
        return 'poisoned';
      },

      /** The next thing that lockgate tells has no games. */
      async spoil() {
        await page.route(
          '**/status.json?compact',
          async (route) => route.fulfill({ json: { ...(await (await route.fetch()).json()), games: null } }),
          { times: 1 },
        );
        return 'spoiled';
      },

      /** Waits for an element with this text, and tells all of its text. */
      see: async (selector, ...words) => line(await (await seen(selector, words)).innerText()),

      /** Waits until there is no such element to be seen. */
      async gone(selector) {
        await page.locator(selector).first().waitFor({ state: 'hidden' });
        return 'gone';
      },

      /** How many such elements can be seen. */
      count: async (selector) => {
        const shown = await Promise.all((await page.locator(selector).all()).map((one) => one.isVisible()));
        return String(shown.filter(Boolean).length);
      },

      async press(...keys) {
        for (const key of keys) await page.keyboard.press(key);
        return 'pressed';
      },

      async type(...words) {
        await page.keyboard.type(words.join(' '));
        return 'typed';
      },

      /** Goes on with Tab until it stands on an element with this text. */
      async tab(...words) {
        for (let times = 0; times < 200; times += 1) {
          await page.keyboard.press('Tab');
          const text = await page.locator(':focus').evaluateAll(([one]) => one?.textContent ?? '');
          if (text.includes(words.join(' '))) return line(text);
        }
        throw new Error(`Tab never comes to ${words.join(' ')}`);
      },

      /** The text of what has the focus, and whether one sees that. */
      async focus() {
        const focused = page.locator(':focus');
        const outline = await focused.evaluate((one) => getComputedStyle(one).outlineStyle);
        return `${outline === 'none' ? 'unseen' : 'seen'}: ${line(await focused.innerText())}`;
      },

      /** Marks the first such element; it is lost when it is made anew. */
      async mark(selector) {
        await page.locator(selector).first().evaluate((one) => (one.marked = true));
        return 'marked';
      },

      marked: async (selector) =>
        String(await page.locator(selector).first().evaluate((one) => one.marked === true)),

      /** What it is to a screen reader: the roles and names of such elements. */
      async role(role, ...name) {
        const options = name.length ? { name: name.join(' '), exact: true } : {};
        return String(await page.getByRole(role, options).count());
      },

      /** Whether the page is as narrow as a phone. */
      async phone() {
        await page.setViewportSize({ width: 390, height: 844 });
        const wide = await page.locator('html').evaluate((one) => one.scrollWidth);
        return wide <= 390 ? 'fits' : `${wide} wide`;
      },

      clean: async () => (complaints.length ? line(complaints.join('; ')) : 'clean'),
    });
  } finally {
    await browser.close();
  }
});
