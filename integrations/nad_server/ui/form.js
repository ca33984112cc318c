// The question form: filled from the server's options, kept over a reload, and read into the body of a request.
const $ = (id) => document.getElementById(id);
const FIELDS = ["prompt", "n", "selector", "pruning", "max_tokens", "temperature", "seed", "verify"];
const KEPT = "nad-form";

export class Form {
  constructor() {
    this.descriptions = new Map();
    this.runsCode = false;
    $("ask").addEventListener("input", () => { this.#keep(); this.#describe(); });
    $("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("run").disabled) { event.preventDefault(); $("ask").requestSubmit(); }
    });
  }

  // options: the answer of api/options
  offer(options) {
    this.descriptions = new Map(options.selectors.map(({ name, description }) => [name, description]));
    this.runsCode = options.verify;
    $("selector").replaceChildren(...options.selectors.map(({ name, description }) => {
      const choice = new Option(name, name);
      choice.title = description;
      return choice;
    }));
    for (const name of ["selector", "pruning", "n", "temperature"]) $(name).value = options[name];
    $("n").max = options.max_candidates;
    $("max_tokens").value = Math.min(256, options.max_tokens);
    $("verify-option").hidden = !options.verify;
    this.#restore();
    this.#describe();
    $("ask").hidden = false;
    $("prompt").focus();
  }

  // the body of a request, but for the model
  get body() {
    const nad = { n: +$("n").value, selector: $("selector").value, pruning: $("pruning").value };
    if (this.runsCode) nad.verify = $("verify").checked;
    const body = { prompt: $("prompt").value, max_tokens: +$("max_tokens").value, temperature: +$("temperature").value, nad };
    if ($("seed").value) body.seed = +$("seed").value;
    return body;
  }

  // "knn: what it does", or the name alone where the server has nothing to say about it
  about(selector) {
    const description = this.descriptions.get(selector);
    return description ? `${selector}: ${description}` : selector;
  }

  #describe() { $("selector-note").textContent = this.about($("selector").value); }

  #keep() {
    const values = FIELDS.map((id) => [id, $(id).type === "checkbox" ? $(id).checked : $(id).value]);
    sessionStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(values)));
  }

  // a value that the server no longer takes, such as a selector it does not have, gives way to the server's own
  #restore() {
    for (const [id, value] of Object.entries(JSON.parse(sessionStorage.getItem(KEPT) ?? "{}"))) {
      const field = $(id), own = field.value;
      if (field.type === "checkbox") field.checked = value;
      else {
        field.value = value;
        if (field.value !== value || !field.validity.valid) field.value = own;
      }
    }
  }
}
