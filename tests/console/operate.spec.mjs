// What an operator does: looks, switches under load, runs the jobs, settles dead letters, loses the service.
import { expect, test } from '@playwright/test';
import { Service, seed, until } from './service.mjs';

test.describe.configure({ mode: 'serial' });
let service;

test.beforeAll(async () => {
  service = await Service.start('[chaos]\nenabled = true\n');
  await seed(service);
});
test.afterAll(() => service?.stop());

const open = (page, name) => page.goto(`${service.url}/console/#/${name}`);
const stage = (page, kind) => page.locator(`[data-stage="${kind}"]`);

async function order(page, goal, reason) {
  await open(page, `switch/${goal}`);
  await page.getByRole('button', { name: 'Dry run' }).click();
  await expect(page.getByText('It may begin.')).toBeVisible();
  await page.getByRole('button', { name: 'Switch…' }).click();
  const dialog = page.getByRole('dialog');
  const go = dialog.getByRole('button', { name: 'Switch', exact: true });
  await expect(go).toBeDisabled();
  await dialog.getByLabel('Reason').fill(reason);
  await expect(go).toBeDisabled();
  await dialog.getByLabel('Type').fill(goal);
  await expect(dialog.locator('code').filter({ hasText: 'oms mode' })).toContainText(`--reason '${reason}'`);
  await go.click();
  await expect(dialog).toHaveCount(0);
}

async function job(page, name) {
  await open(page, 'jobs');
  const card = page.getByRole('region', { name: new RegExp(`^${name}`) });
  await card.getByRole('button', { name: 'Start' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Start' }).click();
  await expect(card.getByRole('heading')).toContainText('done', { timeout: 60_000 });
  return card;
}

test('a question that was asked is not answered for another goal', async ({ page }) => {
  await open(page, 'switch/dual_write/postgres');
  await page.getByRole('button', { name: 'Dry run' }).click();
  await page.getByRole('button', { name: 'Switch…' }).click();
  await expect(page.getByRole('dialog')).toContainText('Switch to dual_write/postgres');
  // Back and Forward of the browser work while it is open.
  await page.evaluate(() => { location.hash = '#/switch/s3_only'; });
  await expect(page.getByRole('radio', { name: 's3_only' })).toBeChecked();
  await expect(page.getByRole('dialog')).toBeHidden();
  expect((await service.api('/admin/migration')).stage).toBe('legacy');
});

test('the way from PostgreSQL to S3 is walked under load, and the picture moves', async ({ page, context }) => {
  const watcher = await context.newPage();
  await open(watcher, 'overview');
  await expect(stage(watcher, 'legacy')).toContainText('you are here');
  await expect(watcher.getByText('PostgreSQL leads every partition').first()).toBeVisible();
  let load = service.load();

  // Far ahead the gates say what is not proved yet, and the order cannot be given.
  await open(page, 'switch/dual_write/s3');
  await page.getByRole('button', { name: 'Dry run' }).click();
  await expect(page.getByRole('row').filter({ hasText: 'backfill_remaining' })).toContainText('cannot be forced');
  await expect(page.getByRole('button', { name: 'Switch…' })).toBeDisabled();

  await order(page, 'dual_write/postgres', 'OPS-7: mirror to S3');
  await expect(stage(watcher, 'dual_write/postgres')).toContainText('you are here');
  const first = await load.stop();
  // A backfill follows what is written for as long as something is.
  await job(page, 'Backfill');
  const verified = await job(page, 'Verify');
  await expect(verified).toContainText('both places hold the same');
  load = service.load();
  await order(page, 'dual_write/s3', 'OPS-7: S3 leads');
  await expect(stage(watcher, 'dual_write/s3')).toContainText('you are here');
  await expect(watcher.getByText('S3 leads every partition').first()).toBeVisible();

  const told = await load.stop();
  expect([...first.failed, ...told.failed]).toEqual([]);
  expect(told.acknowledged).toBeGreaterThan(20);
  const row = page.getByRole('region', { name: 'History of switches' }).getByRole('row').filter({ hasText: 'OPS-7: S3 leads' });
  await expect(row).toContainText('writes waited');
  await expect(row).toContainText('anonymous');
  // The API tells the same.
  const migration = await service.api('/admin/migration');
  expect(migration.stage).toBe('dual_write/s3');
  // The charts have seen the load.
  await expect(watcher.locator('.tile').filter({ hasText: 'writes a second' }).locator('b')).not.toHaveText('–');
  const metrics = await service.api('/admin/metrics');
  const writes = metrics.figures.find((f) => f.name === 'writes').values;
  expect(Math.max(...writes)).toBeGreaterThan(1);
});

test('versions are compared, and the past is said to be the past', async ({ page }) => {
  await open(page, 'streams/films/Movie');
  await page.getByLabel('Ids that begin with').fill('metro');
  await page.getByRole('button', { name: 'Find' }).click();
  await page.getByRole('link', { name: 'metropolis', exact: true }).click();
  await expect(page.getByText('This is the present')).toBeVisible();
  await page.getByRole('slider').fill('2');
  await expect(page.getByText('You look at the past:')).toBeVisible();
  await expect(page.locator('.two pre')).toContainText('1922');
  await page.getByRole('button', { name: 'Back to now' }).click();
  await page.getByLabel('Compare with version').fill('1');
  await page.getByLabel('Compare with version').press('Enter');
  const years = page.getByRole('row').filter({ hasText: 'year' });
  await expect(years).toContainText('1921');
  await expect(years).toContainText('1927');
  await expect(page).toHaveURL(/v=7&with=1/);
  await page.getByText('hide contents').click();
  await expect(page.locator('.two')).not.toContainText('1927');
  // From the event to what is stored.
  await page.getByRole('link', { name: /^position/ }).first().click();
  await expect(page.locator('#s3-address')).toContainText('s3://');
  await expect(page.getByRole('row').filter({ hasText: 'S3' })).toContainText('here');
  await page.getByRole('link', { name: /^command/ }).click();
  await expect(page.getByText('committed')).toBeVisible();
});

test('the feed shows what is committed as it comes, and stands still when told to', async ({ page }) => {
  await open(page, 'feed?types=OrderShipped');
  await expect(page.getByText('nothing yet')).toBeVisible();
  await service.api('/streams/order/2026-1/events', { events: [{ type: 'OrderShipped', data: {} }] });
  const rows = page.getByRole('row').filter({ hasText: 'OrderShipped' });
  await expect(rows).toHaveCount(1);
  await page.getByRole('button', { name: 'Pause' }).click();
  await service.api('/streams/order/2026-1/events', { events: [{ type: 'OrderShipped', data: {} }] });
  await expect(page.getByRole('button', { name: 'Go on (1 wait)' })).toBeVisible();
  await expect(rows).toHaveCount(1);
  await page.getByRole('button', { name: 'Go on' }).click();
  await expect(rows).toHaveCount(2);
});

// The embedded broker refuses nothing. So two rows that wait in the outbox are put where the relay puts those that were
// refused ten times; what follows is the service's own.
const REFUSED = `WITH gone AS (DELETE FROM oms.outbox WHERE stream_type = 'order' RETURNING *)
  INSERT INTO oms.dead_letters (partition, commit_offset, idx, event_id, stream_type, stream_id, version, topic, epoch, mode,
    start_byte, len_bytes, body, attempts, last_error, created)
  SELECT partition, commit_offset, idx, event_id, stream_type, stream_id, version, topic, epoch, mode,
    start_byte, len_bytes, body, 10, 'message is too large <img src=x onerror="window.harmed=1">', created FROM gone`;

test('dead letters are seen, requeued and discarded', async ({ page }) => {
  const failing = (times) => service.api('/admin/actors/failpoints', { name: 'kafka.publish.before', action: 'error', times });
  await failing(1_000_000);
  await service.api('/streams/order/2026-2/events', { events: [{ type: 'OrderPlaced', data: {} }, { type: 'OrderPaid', data: {} }] });
  await until('two rows in the outbox', 30, async () => await service.sql("SELECT count(*) FROM oms.outbox WHERE stream_type = 'order'") === '2');
  await service.sql(REFUSED);
  // The relay holds what it has taken in memory, and learns anew when it is started again.
  await service.api('/admin/actors/kill', { path: 'relay', how: 'panic' });
  await failing(0);
  await open(page, 'overview');
  const item = page.locator('.needs li').filter({ hasText: '2 dead letters' });
  await expect(item).toBeVisible({ timeout: 40_000 });
  await expect(item.getByRole('link', { name: 'Runbook: Dead letters' })).toHaveAttribute('href', '#/runbook/dead-letters');
  await item.getByRole('link', { name: 'Read, then requeue or discard' }).click();
  await expect(page.getByText('2 letters to oms.stream')).toBeVisible();
  await page.getByRole('checkbox', { name: 'pick order/2026-2, version 1' }).check();
  await page.getByRole('button', { name: 'Requeue 1…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Requeue' }).click();
  await expect(page.getByRole('checkbox')).toHaveCount(1);
  await page.getByRole('checkbox', { name: 'pick order/2026-2, version 2' }).check();
  await page.getByRole('button', { name: 'Discard 1…' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByRole('button', { name: 'Discard' })).toBeDisabled();
  await dialog.getByLabel('Type').fill('discard 1');
  await dialog.getByRole('button', { name: 'Discard' }).click();
  await expect(page.getByText('there are none')).toBeVisible();
  // What was requeued is published; what was discarded is gone.
  await until('an empty outbox', 30, async () => {
    const { depth, dead_letters: dead } = await service.api('/admin/outbox');
    return depth === 0 && dead === 0;
  });
  const audit = await service.api('/admin/audit');
  expect(audit.items.some((e) => /dead\/\d+\/discard$/.test(e.action))).toBe(true);
  expect(await page.evaluate(() => window.harmed)).toBeUndefined();
});

test('an actor that is killed comes back and is counted', async ({ page }) => {
  await open(page, 'actors');
  await page.getByLabel('Path').fill('relay');
  const row = page.getByRole('row').filter({ hasText: 'Kill…' });
  const restarts = async () => Number(await row.getByRole('cell').nth(2).textContent());
  const before = await restarts();
  await page.getByRole('button', { name: 'Kill…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Type').fill('relay');
  await dialog.getByRole('button', { name: 'Kill' }).click();
  await expect.poll(restarts).toBe(before + 1);
  await expect(row).toContainText('running');
  await expect(row).toContainText('killed on request');
});

test('the service is lost and found again without a reload', async ({ page }) => {
  await open(page, 'overview');
  await expect(page.locator('#status b')).toHaveText(/Well/);
  await service.kill();
  await expect(page.locator('.banner h2')).toHaveText('Connection lost');
  await expect(page.locator('#fresh')).toHaveText(/as of .+ ago, connection lost/);
  await expect(page.getByText('What follows is as of')).toBeVisible();
  await page.evaluate(() => { location.hash = '#/jobs'; });
  await expect(page.getByText('The service is away:')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Start verify…' })).toBeDisabled();
  // The runbook is at hand all the same.
  await page.evaluate(() => { location.hash = '#/runbook/s3-is-down'; });
  await expect(page.getByRole('heading', { name: 'S3 is down' })).toBeVisible();
  await page.evaluate(() => { location.hash = '#/overview'; });
  await service.run();
  await expect(page.locator('#status b')).toHaveText(/Well/, { timeout: 60_000 });
  await expect(stage(page, 'dual_write/s3')).toContainText('you are here');
});
