// Pictures of the console for the documents, of a service of its own while it is at work: `deploy/dev console pictures`.
import { chromium } from '@playwright/test';
import { Service, seed, until } from './service.mjs';

const folder = process.argv[2];
const service = await Service.start('[chaos]\nenabled = true\n');
try {
  await seed(service);
  const load = service.load(4);
  const job = async (kind) => {
    await service.api(`/admin/migration/${kind}`, {});
    await until(kind, 60, async () => (await service.api(`/admin/migration/${kind}`)).state === 'done');
  };
  await new Promise((then) => { setTimeout(then, 20_000); });
  await service.api('/admin/migration/mode', { mode: 'dual_write', reason: 'OPS-7: mirror to S3' });
  await new Promise((then) => { setTimeout(then, 20_000); });
  const told = await load.stop();
  if (told.failed.length) throw new Error(told.failed[0]);
  await job('backfill');
  await job('verify');
  const more = service.load(4);
  await service.api('/admin/migration/mode', { mode: 'dual_write', lead: 's3', percent: 50, reason: 'OPS-7: S3 leads half of it' });
  // Kafka is away for a while.
  await service.api('/admin/actors/failpoints', { name: 'kafka.publish.before', action: 'error', times: 1_000_000 });
  await new Promise((then) => { setTimeout(then, 75_000); });
  const browser = await chromium.launch({ executablePath: process.env.OMS_CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
  const take = async (name, address, colorScheme, size, prepare = async () => {}) => {
    const context = await browser.newContext({ colorScheme, viewport: size });
    const page = await context.newPage();
    await page.goto(`${service.url}/console/#/${address}`);
    await page.locator('#status b').filter({ hasText: /Well|Degraded/ }).waitFor();
    await page.waitForTimeout(3_000);
    await prepare(page);
    await page.waitForTimeout(500);
    await page.screenshot({ path: `${folder}/console-${name}.png` });
    await context.close();
  };
  await take('overview', 'overview', 'light', { width: 1200, height: 1180 });
  await take('overview-dark', 'overview', 'dark', { width: 1200, height: 760 });
  await take('switch', 'switch/s3_only', 'light', { width: 1200, height: 1000 }, async (page) => {
    await page.getByRole('button', { name: 'Dry run' }).click();
    await page.getByText('What the gates say').waitFor();
  });
  await take('stream', 'stream/instance/films%2FMovie%2Fmetropolis?v=4&with=1', 'light', { width: 1200, height: 900 });
  await take('phone', 'overview', 'light', { width: 390, height: 844 });
  await browser.close();
  await service.api('/admin/actors/failpoints', { name: 'kafka.publish.before', action: 'error', times: 0 });
  await more.stop();
} finally {
  await service.stop();
}
