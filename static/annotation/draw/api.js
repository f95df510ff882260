// The JSON API as the page sees it: an answer, or one of few kinds of refusal. No DOM.

const TIMEOUT_MS = 25_000;

/** What kept an answer from arriving. `kind`: offline, signed-out, refused (4xx), busy (5xx, 429). */
export class ApiError extends Error {
  constructor(kind, { status = 0, problem = {}, retryAfter = null } = {}) {
    super(problem.detail || problem.title || kind);
    this.kind = kind;
    this.status = status;
    this.code = problem.code ?? "";
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

export class Api {
  constructor(base, { fetch = globalThis.fetch.bind(globalThis), token = csrfToken } = {}) {
    this.base = base;
    this.fetch = fetch;
    this.token = token;
  }

  next(survey, body = {}) {
    return this.ask("POST", `surveys/${survey}/next/`, body);
  }

  task(id) {
    return this.ask("GET", `tasks/${id}/`);
  }

  saveDraft(id, draft, options) {
    return this.ask("PUT", `tasks/${id}/draft/`, draft, options);
  }

  lease(id) {
    return this.ask("POST", `tasks/${id}/lease/`, {});
  }

  submit(id, answer) {
    return this.ask("POST", `tasks/${id}/submit/`, answer);
  }

  skip(id, body) {
    return this.ask("POST", `tasks/${id}/skip/`, body);
  }

  release(id) {
    return this.ask("POST", `tasks/${id}/release/`, {}, { keepalive: true });
  }

  async ask(method, path, body, { keepalive = false } = {}) {
    const headers = { Accept: "application/json", "X-CSRFToken": this.token() };
    const request = { method, headers, credentials: "same-origin", keepalive, redirect: "error" };
    if (body !== undefined) {
      headers["Content-Type"] = "application/json";
      request.body = JSON.stringify(body);
    }
    if (!keepalive) request.signal = AbortSignal.timeout(TIMEOUT_MS);
    let response;
    try {
      response = await this.fetch(this.base + path, request);
    } catch (error) {
      throw new ApiError("offline", { problem: { detail: String(error) } });
    }
    if (response.status === 204) return null;
    const data = await response.json().catch(() => ({}));
    if (response.ok) return data;
    throw refusal(response, data);
  }
}

function refusal(response, problem) {
  const { status } = response;
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  if (status === 401 || (status === 403 && problem.code !== "not_an_expert")) {
    return new ApiError("signed-out", { status, problem });
  }
  if (status === 429 || status >= 500) return new ApiError("busy", { status, problem, retryAfter });
  return new ApiError("refused", { status, problem });
}

/** Read at every request: signing in again in another tab changes it. */
export function csrfToken() {
  return document.cookie.match(/(?:^|;\s*)csrftoken=([^;]+)/)?.[1] ?? "";
}
