/**
 * Sends files one request each, three at a time, and does not give up while the connection comes and goes.
 * No DOM in here: the page hands in how to send and is told what happens.
 */

const AT_ONCE = 3;
const LONGEST_WAIT_MS = 30_000;

/** @returns {Promise<string|null>} hexadecimal SHA-256; null where the browser has no crypto (plain http) or memory */
export async function sha256(file) {
  if (!globalThis.crypto?.subtle || file.size > 64 * 1024 * 1024) return null;
  try {
    const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  } catch {
    return null;
  }
}

/**
 * Runs `work(item)` for all items, AT_ONCE at a time. `work` answers {retry: ms|true} to be asked again later
 * (true: with growing pauses), {stop: true} to end everything, anything else when the item is through.
 * @returns {Promise<boolean>} whether it ran to the end
 */
export async function runAll(items, work, { pause = (ms) => new Promise((done) => setTimeout(done, ms)) } = {}) {
  const waiting = [...items];
  let stopped = false;

  async function lane() {
    for (let item = waiting.shift(); item && !stopped; item = waiting.shift()) {
      for (let tries = 0; !stopped; tries += 1) {
        const { retry, stop } = (await work(item)) ?? {};
        if (stop) stopped = true;
        if (!retry) break;
        await pause(retry === true ? Math.min(LONGEST_WAIT_MS, 1000 * 2 ** tries) : retry);
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return !stopped;
}

/** All files of a drop, folders included, in the order of their paths. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const files = [];
  for (const entry of entries) await collect(entry, files);
  return files;
}

async function collect(entry, files) {
  if (entry.isFile) {
    files.push(await new Promise((done, failed) => entry.file(done, failed)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A reader gives at most a hundred entries a call.
    const batch = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!batch.length) return;
    for (const child of batch) await collect(child, files);
  }
}

/** Files that systems leave in folders are nobody's photos. */
export function isPhotoOrZip(file) {
  return !file.name.startsWith(".") && !["Thumbs.db", "desktop.ini"].includes(file.name);
}
