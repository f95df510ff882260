// Drafts in this browser: what was drawn survives a crash, a closed tab and a dead connection. One per person and photo.

const DATABASE = "podura-drafts";
const STORE = "drafts";
const KEPT_DAYS = 45;
const FALLBACK_PREFIX = "podura-draft:";

export class LocalDrafts {
  constructor(user, { databases = globalThis.indexedDB, storage = safeStorage() } = {}) {
    this.user = user;
    this.storage = storage;
    this.opened = databases ? openPatiently(databases).catch(() => null) : Promise.resolve(null);
    this.pending = new Map(); // task -> the newest draft that is not yet in the database
    this.writing = null;
  }

  key(task) {
    return `${this.user}:${task}`;
  }

  /** Written in order, the newest only; resolves when it is on the disk. False: this browser keeps nothing. */
  async put(task, draft) {
    this.pending.set(task, { ...draft, user: this.user, task, kept_at: Date.now() });
    this.writing ??= this.write().finally(() => (this.writing = null));
    return this.writing;
  }

  async write() {
    const database = await this.opened;
    let isKept = true;
    while (this.pending.size) {
      const [task, draft] = this.pending.entries().next().value;
      try {
        if (!database) throw new Error("no database");
        await request(database, "readwrite", (store) => store.put(draft, this.key(task)));
        this.storage?.removeItem(FALLBACK_PREFIX + this.key(task));
      } catch {
        isKept = this.toStorage(task, draft);
      }
      if (this.pending.get(task) === draft) this.pending.delete(task);
    }
    return isKept;
  }

  /** At the last moment of a page nothing asynchronous is sure to run: what waits goes where writing is immediate. */
  flush() {
    for (const [task, draft] of this.pending) this.toStorage(task, draft);
  }

  toStorage(task, draft) {
    try {
      this.storage.setItem(FALLBACK_PREFIX + this.key(task), JSON.stringify(draft));
      return true;
    } catch {
      return false;
    }
  }

  async get(task) {
    const database = await this.opened;
    const kept = database ? await request(database, "readonly", (store) => store.get(this.key(task))).catch(() => null) : null;
    const spare = parsed(this.storage?.getItem(FALLBACK_PREFIX + this.key(task)));
    if (kept && spare) return spare.kept_at > kept.kept_at ? spare : kept;
    return kept ?? spare ?? null;
  }

  async delete(task) {
    this.pending.delete(task);
    await this.writing;
    this.storage?.removeItem(FALLBACK_PREFIX + this.key(task));
    const database = await this.opened;
    if (database) await request(database, "readwrite", (store) => store.delete(this.key(task))).catch(() => null);
  }

  /** Drafts nobody came back for in weeks. */
  async forgetOld(days = KEPT_DAYS) {
    const database = await this.opened;
    if (!database) return;
    const before = Date.now() - days * 86_400_000;
    const all = await request(database, "readonly", (store) => store.getAllKeys()).catch(() => []);
    for (const key of all) {
      const draft = await request(database, "readonly", (store) => store.get(key)).catch(() => null);
      if (draft && draft.kept_at < before) await request(database, "readwrite", (store) => store.delete(key)).catch(() => null);
    }
  }
}

/** Right after a crash the browser may still be closing what the crashed page had open. */
async function openPatiently(databases, tries = 4) {
  for (;;) {
    try {
      return await open(databases);
    } catch (error) {
      tries -= 1;
      if (!tries) throw error;
      await new Promise((done) => setTimeout(done, 150));
    }
  }
}

function open(databases) {
  return new Promise((done, failed) => {
    const asked = databases.open(DATABASE, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => done(asked.result);
    asked.onerror = asked.onblocked = () => failed(asked.error ?? new Error("blocked"));
  });
}

function request(database, mode, act) {
  return new Promise((done, failed) => {
    const transaction = database.transaction(STORE, mode, { durability: "strict" }); // done means on the disk
    const asked = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => done(asked.result);
    transaction.onabort = transaction.onerror = () => failed(transaction.error);
  });
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

function safeStorage() {
  try {
    return globalThis.localStorage;
  } catch {
    return null;
  }
}
