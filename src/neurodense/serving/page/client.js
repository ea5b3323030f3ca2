// The server: asked a few things at a time, again where it is busy or gone.

export class Refused extends Error {
  constructor(problem) {
    super(problem.detail ?? "The server refused this.");
    this.problem = problem;
  }
}

const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

export class Client {
  #token = "";
  #gone = null; // a promise while the server does not answer

  // `onGone(true)` when it stops answering, `onGone(false)` when it does again; `askToken()` gives a token.
  constructor(onGone, askToken) {
    this.onGone = onGone;
    this.askToken = askToken;
  }

  model = () => this.#ask("/v1/model", {});

  predict = (files, signal) => this.#ask("/v1/predict", { method: "POST", body: form(files), signal });

  explain = (files, side, signal) =>
    this.#ask(`/v1/explain?side=${side}`, { method: "POST", body: form(files), signal, headers: { Accept: "application/json" } });

  async #ask(path, options) {
    for (let slow = 0; ; ) {
      let answer, said;
      try {
        const headers = { ...options.headers, ...(this.#token && { Authorization: `Bearer ${this.#token}` }) };
        answer = await fetch(path, { ...options, headers });
        said = await answer.json();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        if (options.body && !(await readable(options.body))) {
          throw new Refused({ detail: "This file can no longer be read: it was moved or changed." });
        }
        await this.#back();
        continue;
      }
      if (answer.ok) return said;
      if (answer.status === 401) {
        this.#token = await this.askToken();
      } else if (answer.status === 429 || (answer.status === 503 && (slow += 1) < 3)) {
        await wait(Number(answer.headers.get("Retry-After")) || 1);
      } else {
        throw new Refused(said);
      }
    }
  }

  #back() {
    this.#gone ??= (async () => {
      this.onGone(true);
      for (;;) {
        await wait(1);
        const answer = await fetch("/readyz", { cache: "no-store" }).catch(() => null);
        if (answer?.ok) break;
      }
      this.#gone = null;
      this.onGone(false);
    })();
    return this.#gone;
  }
}

function form(files) {
  const body = new FormData();
  for (const { file, path } of files) body.append("files", file, path);
  return body;
}

// A file that was changed on disk makes fetch fail as a server that is gone does.
async function readable(body) {
  try {
    for (const file of body.getAll("files")) await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
