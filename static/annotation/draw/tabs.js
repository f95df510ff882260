// The same photo open in two tabs of this browser: they know of each other. Other browsers are told apart by the server.

export class Tabs {
  /** `on` = {other(isThere), saved(version), sent()} about the task that is open here. */
  constructor(user, client, on) {
    this.client = client;
    this.on = on;
    this.others = new Set();
    this.task = null;
    this.channel = globalThis.BroadcastChannel ? new BroadcastChannel(`podura-draw:${user}`) : null;
    this.channel?.addEventListener("message", (event) => this.heard(event.data));
  }

  open(task) {
    if (this.task && this.task !== task) this.tell("gone");
    this.task = task;
    this.others.clear();
    this.on.other(false);
    if (task) this.tell("open");
  }

  tell(kind, detail = {}) {
    this.channel?.postMessage({ kind, client: this.client, task: this.task, ...detail });
  }

  heard({ kind, client, task, version }) {
    if (client === this.client || !this.task || task !== this.task) return;
    if (kind === "open" || kind === "here") {
      this.others.add(client);
      if (kind === "open") this.tell("here");
      this.on.other(true);
    } else if (kind === "gone" || kind === "sent") {
      this.others.delete(client);
      this.on.other(this.others.size > 0);
      if (kind === "sent") this.on.sent();
    } else if (kind === "saved") {
      this.on.saved(version);
    }
  }
}
