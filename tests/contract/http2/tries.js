// HTTP/2 as no gRPC library would send it. Reads {address, tries: [{headers, body, cut}]} as JSON
// from standard input and prints how each ended: [{status, headers, trailers, reset, error}].
// `body` is base64; with `cut` the stream is reset behind it instead of ended. A try that is not
// answered within `patience_ms` is given up.
"use strict";
const http2 = require("node:http2");

function attempt(address, { headers, body, cut, patience_ms }) {
  return new Promise((resolve) => {
    const ended = { status: null, headers: {}, trailers: {}, reset: null, error: null };
    const session = http2.connect(`http://${address}`);
    const done = () => {
      session.destroy();
      resolve(ended);
    };
    const patience = setTimeout(() => {
      ended.error = "no answer";
      done();
    }, patience_ms);
    session.on("error", (error) => {
      ended.error = String(error.code || error.message);
    });
    session.on("close", () => {
      clearTimeout(patience);
      resolve(ended);
    });
    let stream;
    try {
      stream = session.request(headers, { endStream: false });
    } catch (error) {
      ended.error = `not sent: ${error.code}`;
      clearTimeout(patience);
      done();
      return;
    }
    stream.on("response", (got) => {
      ended.status = got[":status"];
      ended.headers = { ...got };
    });
    stream.on("trailers", (got) => {
      ended.trailers = { ...got };
    });
    stream.on("error", (error) => {
      ended.error = String(error.code || error.message);
    });
    stream.on("data", () => {});
    stream.on("close", () => {
      ended.reset = stream.rstCode;
      clearTimeout(patience);
      done();
    });
    const bytes = Buffer.from(body, "base64");
    if (cut) {
      stream.write(bytes, () => stream.close(http2.constants.NGHTTP2_CANCEL));
    } else {
      stream.end(bytes);
    }
  });
}

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const { address, tries } = JSON.parse(Buffer.concat(chunks).toString());
  const ended = [];
  for (const one of tries) ended.push(await attempt(address, one));
  process.stdout.write(JSON.stringify(ended));
}

main();
