/** The send page: files chosen, dropped or taken are listed, sent one by one with progress, and refusals named. */
import { droppedFiles, isPhotoOrZip, runAll, sha256 } from "./send-queue.js";

const form = document.getElementById("send");
if (form) start(form);

function start(form) {
  const words = JSON.parse(document.getElementById("send-words").textContent);
  const list = document.getElementById("send-list");
  const button = document.getElementById("send-button");
  const error = document.getElementById("send-error");
  const said = document.getElementById("send-said");
  const bar = document.getElementById("send-bar");
  const progress = document.getElementById("send-progress");
  const goTo = document.getElementById("send-goto");
  const separate = document.getElementById("send-separate");
  const drop = document.getElementById("drop");
  const batchField = form.elements.batch;
  const storeKey = `podura-send-${form.dataset.user}`;
  /** @type {{file: File, row: HTMLElement, state: string, batch?: string}[]} */
  let items = [];
  let busy = false;

  resume();
  showSeparate();

  // --- Choosing --------------------------------------------------------------------------------------------
  for (const id of ["id_files", "id_folder", "id_camera"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      add([...input.files]);
      input.value = "";
    });
  }
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("drop--over");
    });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("drop--over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("drop--over");
    add(await droppedFiles(event.dataTransfer));
  });

  function add(files) {
    if (busy) return;
    for (const file of files.filter(isPhotoOrZip)) {
      const twin = items.some((i) => i.file.name === file.name && i.file.size === file.size && i.file.lastModified === file.lastModified);
      if (!twin) items.push(newItem(file));
    }
    error.hidden = true;
    showSeparate();
    showCount();
  }

  function newItem(file) {
    const row = document.createElement("li");
    row.className = "send-file";
    const picture = document.createElement("span");
    picture.className = "send-file__picture";
    if (file.type.startsWith("image/") && items.length < 300) preview(file, picture);
    const text = document.createElement("span");
    text.className = "send-file__text";
    const name = document.createElement("strong");
    name.textContent = file.webkitRelativePath || file.name;
    const note = document.createElement("span");
    note.className = "send-file__note";
    const meter = document.createElement("progress");
    meter.className = "progress send-file__meter";
    meter.max = 1;
    meter.value = 0;
    meter.hidden = true;
    meter.setAttribute("aria-label", file.name);
    text.append(name, note, meter);
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "button button--quiet button--small send-file__remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", words.remove.replace("%s", file.name));
    row.append(picture, text, remove);
    list.append(row);
    const item = { file, row, note, meter, remove, state: "" };
    remove.addEventListener("click", () => {
      items = items.filter((other) => other !== item);
      row.remove();
      showSeparate();
      showCount();
    });
    return item;
  }

  function preview(file, place) {
    const image = new Image();
    image.alt = "";
    image.decoding = "async";
    image.loading = "lazy";
    image.src = URL.createObjectURL(file);
    const done = () => URL.revokeObjectURL(image.src);
    image.addEventListener("load", done);
    image.addEventListener("error", () => {
      done();
      image.remove();
    });
    place.append(image);
  }

  function showSeparate() {
    separate.hidden = items.length < 2;
  }
  function showCount() {
    progress.hidden = !items.length;
    said.textContent = items.length === 1 ? words.chosenOne : words.chosen.replace("%s", items.length);
    bar.value = 0;
  }
  function setState(item, state, text, link) {
    item.state = state;
    item.row.dataset.state = state;
    item.note.replaceChildren(link ? linkTo(link, text) : text);
    item.meter.hidden = state !== "sending";
  }
  function linkTo(url, text) {
    const a = document.createElement("a");
    a.href = url;
    a.textContent = text;
    return a;
  }

  // --- A batch survives a reload: its name and details are kept until its end -------------------------------
  function remember() {
    const details = Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === "string"));
    delete details.csrfmiddlewaretoken;
    sessionStorage.setItem(storeKey, JSON.stringify(details));
  }
  function resume() {
    const kept = sessionStorage.getItem(storeKey);
    if (!kept) return;
    for (const [name, value] of Object.entries(JSON.parse(kept))) {
      const field = form.elements[name];
      if (field) field.value = value;
    }
    for (const name of ["latitude", "longitude"]) form.elements[name].dispatchEvent(new Event("change"));
    const notice = document.getElementById("send-resume");
    notice.hidden = false;
    document.getElementById("send-anew").addEventListener("click", () => {
      sessionStorage.removeItem(storeKey);
      form.reset();
      batchField.value = newUuid();
      for (const name of ["latitude", "longitude"]) form.elements[name].dispatchEvent(new Event("change"));
      notice.hidden = true;
      document.getElementById("id_files").focus();
    });
  }

  // --- Sending ---------------------------------------------------------------------------------------------
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    error.hidden = true;
    if (!items.length) {
      document.getElementById("id_files").focus();
      return fail(words.none);
    }
    for (const old of form.querySelectorAll("[data-said-by-script], .field__error")) old.remove();
    busy = true;
    button.disabled = true;
    form.setAttribute("aria-busy", "true");
    window.addEventListener("beforeunload", warn);
    remember();
    try {
      await sendAll();
    } finally {
      busy = false;
      button.disabled = false;
      form.removeAttribute("aria-busy");
      window.removeEventListener("beforeunload", warn);
    }
  });

  function warn(event) {
    event.preventDefault();
    event.returnValue = words.leave;
  }
  function fail(text) {
    error.textContent = text;
    error.hidden = false;
    error.scrollIntoView({ block: "nearest" });
  }

  async function sendAll() {
    const each = form.elements.separate.value === "1" && items.length > 1;
    for (const item of items) item.batch = each ? (item.batch ?? newUuid()) : batchField.value;
    const todo = items.filter((item) => !["received", "known", "refused"].includes(item.state));
    for (const item of todo) setState(item, "waiting", words.waiting);
    progress.hidden = false;
    if (!each && !(await begin(batchField.value))) return;
    const ended = await runAll(todo, async (item) => {
      const outcome = await sendOne(item, each);
      showProgress();
      return outcome;
    });
    showProgress();
    if (ended) await finish(each);
  }

  function showProgress() {
    const through = items.filter((item) => ["received", "known", "refused"].includes(item.state)).length;
    bar.max = items.length;
    bar.value = through;
    said.textContent = words.progress.replace("%s", through).replace("%s", items.length);
  }

  function newUuid() {
    if (crypto.randomUUID) return crypto.randomUUID();
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  }
  function address(kind, batch) {
    return form.dataset[kind].replace("00000000-0000-0000-0000-000000000000", batch);
  }
  const headers = () => ({ "X-CSRFToken": form.elements.csrfmiddlewaretoken.value, Accept: "application/json" });

  /** Creates the observation; asks again while there is no connection. */
  async function begin(batch) {
    for (let tries = 0; ; tries += 1) {
      const response = await post(address("begin", batch), new FormData(form, undefined), true);
      if (response?.status === 201) return true;
      if (response && response.status < 500) return explain(response);
      said.textContent = words.retrying;
      await new Promise((done) => setTimeout(done, Math.min(30_000, 1000 * 2 ** tries)));
    }
  }
  async function post(url, body, details = false) {
    try {
      if (details) body.delete("files");
      return await fetch(url, { method: "POST", body, headers: headers(), redirect: "manual" });
    } catch {
      return null;
    }
  }
  async function explain(response) {
    if (response.type === "opaqueredirect" || response.status === 401 || response.status === 403) {
      fail(words.signedOut);
      return false;
    }
    const problem = await response.json().catch(() => null);
    if (!problem) {
      fail(words.failed);
      return false;
    }
    for (const [name, texts] of Object.entries(problem.errors ?? {})) {
      const field = form.elements[name];
      const place = field?.closest?.(".field");
      if (!place) continue;
      const text = document.createElement("p");
      text.className = "field__error";
      text.dataset.saidByScript = "";
      text.textContent = texts.join(" ");
      place.append(text);
      field.focus();
    }
    fail(problem.detail ?? words.failed);
    return false;
  }

  async function sendOne(item, each) {
    const { file } = item;
    const limit = /\.zip$/i.test(file.name) ? form.dataset.maxArchiveBytes : form.dataset.maxBytes;
    if (file.size > Number(limit)) {
      const size = new Intl.NumberFormat(document.documentElement.lang, { style: "unit", unit: "megabyte" });
      return setState(item, "refused", words.tooLarge.replace("%s", size.format(Math.round(limit / 1048576))));
    }
    if (!file.size) return setState(item, "refused", words.empty);
    if (each && !item.begun) {
      if (!(await begin(item.batch))) return { stop: true };
      item.begun = true;
    }
    setState(item, "sending", words.checking);
    if (item.digest === undefined) item.digest = await sha256(file);
    if (item.digest && (await isKnown(item))) return undefined;
    return upload(item);
  }

  /** What arrived before, in this batch or an earlier one, does not travel again. */
  async function isKnown(item) {
    try {
      const response = await fetch(address("known", item.batch), {
        method: "POST",
        headers: { ...headers(), "Content-Type": "application/json" },
        body: JSON.stringify({ sha256: [item.digest] }),
        redirect: "manual",
      });
      if (!response.ok) return false;
      const photo = (await response.json()).known[item.digest];
      if (!photo) return false;
      arrived(item, photo.is_here ? "received" : "known", photo);
      return true;
    } catch {
      return false;
    }
  }

  function arrived(item, state, answer) {
    const plain = answer.archive ? words.zipReceived : words.received;
    const text = answer.note || (state === "known" ? words.known : plain);
    setState(item, state, text, answer.note ? answer.url : null);
    item.remove.hidden = true;
  }

  function upload(item) {
    return new Promise((done) => {
      const request = new XMLHttpRequest(); // fetch cannot tell how much has been sent
      const body = new FormData();
      body.append("remember", "1");
      body.append("file", item.file, item.file.name);
      request.open("POST", address("file", item.batch));
      for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
      request.upload.addEventListener("progress", (event) => {
        item.meter.value = event.lengthComputable ? event.loaded / event.total : 0;
      });
      setState(item, "sending", words.sending);
      request.addEventListener("load", () => done(answered(item, request)));
      request.addEventListener("error", () => {
        setState(item, "sending", words.retrying);
        done({ retry: true });
      });
      request.send(body);
    });
  }

  function answered(item, request) {
    let answer = null;
    try {
      answer = JSON.parse(request.responseText);
    } catch {
      // an answer that is not ours: a proxy, or the sign-in page
    }
    if (request.status === 200 || request.status === 201) {
      if (!answer) {
        fail(words.signedOut);
        setState(item, "", "");
        return { stop: true };
      }
      return arrived(item, answer.state === "known" && !answer.is_here ? "known" : "received", answer);
    }
    if (request.status === 429) {
      setState(item, "sending", answer?.detail ?? words.retrying);
      return { retry: 1000 * Number(request.getResponseHeader("Retry-After") ?? 60) };
    }
    if (request.status === 422 || request.status === 413) {
      return setState(item, "refused", answer?.detail ?? words.refused);
    }
    if (request.status >= 500 || request.status === 0) {
      setState(item, "sending", words.retrying);
      return { retry: true };
    }
    fail(answer?.detail ?? (request.status === 403 ? words.signedOut : words.failed));
    setState(item, "", "");
    return { stop: true };
  }

  async function finish(each) {
    const batches = new Set(items.map((item) => item.batch));
    let target = form.dataset.mine;
    let empty = 0;
    for (const batch of batches) {
      const response = await post(address("end", batch), new FormData());
      const answer = response?.ok ? await response.json() : null;
      if (!answer) return fail(words.failed);
      if (answer.is_empty) empty += 1;
      else if (!each) target = answer.url;
    }
    sessionStorage.removeItem(storeKey);
    batchField.value = newUuid();
    goTo.href = target;
    const refused = items.filter((item) => item.state === "refused").length;
    const known = items.filter((item) => item.state === "known").length;
    if (empty === batches.size) {
      if (!known) return fail(words.noneTaken);
      fail(refused ? words.someRefused : words.nothingNew);
      goTo.hidden = false;
      return;
    }
    if (refused || known) {
      // The reasons are worth reading before one leaves.
      if (refused) fail(words.someRefused);
      goTo.hidden = false;
      goTo.focus();
      return;
    }
    window.location.assign(target);
  }
}
