// Answers made on this machine: takes the place of the page's client.js in a site written by `neurodense export --web`.
// Each worker has the whole model and does one thing at a time. Nothing that is dropped here is sent anywhere.

const SITE = new URL("../", import.meta.url);
const MOST = 4; // workers; each takes some 200 MB

export class Refused extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

document.getElementById("reads").textContent =
  "JPEG, PNG, WebP, BMP and GIF; no DICOM, NIfTI or TIFF. They are looked at inside this browser and never leave this machine.";

export class Client {
  #about = null;
  #most = Math.max(1, Math.min(MOST, (navigator.hardwareConcurrency ?? 2) >> 1));
  #workers = [];
  #waiting = []; // tasks: {asked, done, failed}

  model = async () => {
    this.#about ??= fetch(new URL("model.json", SITE)).then((answer) => {
      if (!answer.ok) throw new Refused({ detail: `model.json: ${answer.status} ${answer.statusText}` });
      return answer.json();
    });
    const about = await this.#about;
    await this.#do({ files: [] }); // until the model is loaded
    return about;
  };

  predict = async (files) => {
    const results = await this.#do({ files });
    return { predictions: read(results).map((one) => one.prediction) };
  };

  // What the viewer waits for (`signal`) comes before what only fills the list.
  explain = async (files, side, signal) => {
    const results = await this.#do({ files, side }, signal);
    signal?.throwIfAborted();
    return { explanations: read(results), scale: (await this.#about).scale };
  };

  #do(asked, signal) {
    return new Promise((done, failed) => {
      signal?.addEventListener("abort", () => failed(signal.reason));
      const task = { asked, done, failed, signal };
      if (signal) this.#waiting.unshift(task);
      else this.#waiting.push(task);
      this.#next();
    });
  }

  #next() {
    while (this.#waiting.length) {
      const worker = this.#workers.find((one) => !one.task) ?? this.#another();
      if (!worker) return;
      const task = this.#waiting.shift();
      if (task.signal?.aborted) continue;
      worker.task = task;
      worker.port.postMessage(task.asked);
    }
  }

  #another() {
    if (this.#workers.length >= this.#most) return null;
    // A worker made from a blob is held to this page's content security policy; one made from a file is not.
    const start = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
    const url = URL.createObjectURL(new Blob([start], { type: "text/javascript" }));
    const worker = { port: new Worker(url, { type: "module" }), task: null, ready: false };
    worker.port.onmessage = ({ data }) => {
      if (data.error) return this.#lost(worker, data.error);
      worker.ready = true;
      this.#free(worker).done(data.results);
      this.#next();
    };
    worker.port.onerror = (event) => this.#lost(worker, `The model cannot be run in this browser: ${event.message ?? "its worker did not start"}.`);
    this.#workers.push(worker);
    return worker;
  }

  #free(worker) {
    const { task } = worker;
    worker.task = null;
    return task;
  }

  // A worker that could not load the model or ran out of memory. Where others work, they do what it was to do.
  #lost(worker, detail) {
    const task = this.#free(worker);
    worker.port.terminate();
    this.#workers.splice(this.#workers.indexOf(worker), 1);
    if (!worker.ready && this.#workers.some((one) => one.ready)) {
      this.#most = this.#workers.length;
      this.#waiting.unshift(task);
    } else {
      task?.failed(new Refused({ detail }));
    }
    this.#next();
  }
}

function read(results) {
  if (results.some((one) => !one.prediction.error)) return results;
  throw new Refused({ detail: "No file could be read as an image.", predictions: results.map((one) => one.prediction) });
}
