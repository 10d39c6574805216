// The page that describes the API, with a hook that signs each request tried from it. The signing secret is typed into a
// field of the page, stays in a variable of this script, is sent nowhere and stored nowhere, and is gone with the page. The
// page's Content-Security-Policy lets it talk to its own origin only.
(() => {
  "use strict";

  const utf8 = (text) => new TextEncoder().encode(text);
  const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  /** Seconds since the Unix epoch with nine decimals; the last six only tell two requests apart. */
  const timestamp = () => {
    const now = Date.now();
    const more = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
    const pad = (number, digits) => String(number).padStart(digits, "0");
    return `${Math.floor(now / 1000)}.${pad(now % 1000, 3)}${pad(more, 6)}`;
  };

  /** The value of X-Batoff-Signature over four lines, or five with an Idempotency-Key. */
  const sign = async (secret, lines) => {
    const key = await crypto.subtle.importKey("raw", utf8(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    return `sha256=${hex(await crypto.subtle.sign("HMAC", key, utf8(lines.join("\n"))))}`;
  };

  let secret = "";

  /** Signs what is about to be sent; anything that is not for our own origin is left alone. */
  const signed = async (request) => {
    const url = new URL(request.url, location.href);
    if (request.loadSpec || secret === "" || url.origin !== location.origin) {
      return request;
    }
    const found = Object.entries(request.headers).find(([name]) => name.toLowerCase() === "idempotency-key");
    const time = timestamp();
    const body = hex(await crypto.subtle.digest("SHA-256", utf8(request.body ?? "")));
    const lines = [time, request.method.toUpperCase(), url.pathname + url.search, body];
    if (found) {
      lines.push(found[1]);
    }
    for (const name of Object.keys(request.headers)) {
      if (["x-batoff-timestamp", "x-batoff-signature"].includes(name.toLowerCase())) {
        delete request.headers[name];
      }
    }
    request.headers["X-Batoff-Timestamp"] = time;
    request.headers["X-Batoff-Signature"] = await sign(secret, lines);
    return request;
  };

  const panel = () => {
    const label = document.createElement("label");
    label.style.cssText = "display:block;margin:1em auto;max-width:1420px;padding:0 20px;font:14px sans-serif";
    if (!globalThis.crypto?.subtle) {
      label.textContent = "To try requests here, open this page over HTTPS or on localhost: only there can it sign them.";
      return label;
    }
    label.textContent = "Signing secret, for requests tried here (the token goes into Authorize; neither leaves this page's memory): ";
    const field = document.createElement("input");
    field.type = "password";
    field.autocomplete = "off";
    field.placeholder = "bts_live_…";
    field.size = 60;
    field.addEventListener("input", () => {
      secret = field.value.trim();
    });
    label.append(field);
    return label;
  };

  window.onload = () => {
    const root = document.getElementById("swagger-ui");
    root.before(panel());
    window.ui = SwaggerUIBundle({
      url: "@DESCRIPTION@",
      dom_id: "#swagger-ui",
      deepLinking: true,
      // Left to itself the page would send the description to a public validator.
      validatorUrl: "none",
      persistAuthorization: false,
      requestInterceptor: signed,
      presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
      layout: "StandaloneLayout",
    });
  };
})();
