// A client that knows nothing of Millrace but its address: the schema comes by server reflection.
//
//   node client.js HOST:PORT PICTURE SUFFIX     prints one JSON object, or ends with code 1
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const { GrpcReflection } = require("grpc-js-reflection-client");

const [address, pictureFile, suffix] = process.argv.slice(2);
const CHUNK_BYTES = 64 * 1024;
const PASSWORD = "a password of node";
const LOADER = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };

async function stubs(reflection, services) {
  const found = {};
  for (const name of services) {
    const descriptor = await reflection.getDescriptorBySymbol(name);
    const [schema, Service] = [descriptor.getPackageObject(LOADER), name.split(".")];
    const Stub = Service.reduce((node, part) => node[part], schema);
    found[Service.at(-1)] = new Stub(address, grpc.credentials.createInsecure());
  }
  return found;
}

// One person: what the server answers with is sent back as metadata from then on.
class Person {
  constructor(services) {
    this.services = services;
    this.metadata = new grpc.Metadata();
  }

  async register(handle) {
    const answer = await this.call("UsersService", "Register", {
      request_id: crypto.randomUUID(),
      handle,
      password: PASSWORD,
      display_name: `${handle} of node`,
    });
    this.id = answer.user_id;
    this.metadata.set("authorization", `Bearer ${answer.access_token}`);
  }

  call(service, rpc, request) {
    return new Promise((resolve, reject) => {
      const done = (error, answer) => (error ? reject(error) : resolve(answer));
      this.keepPosition(this.services[service][rpc](request, this.metadata, deadline(), done));
    });
  }

  upload(bytes, caption) {
    return new Promise((resolve, reject) => {
      const done = (error, answer) => (error ? reject(error) : resolve(answer.media));
      const call = this.services.MediaService.UploadMedia(this.metadata, deadline(), done);
      this.keepPosition(call);
      const header = { request_id: crypto.randomUUID(), caption, size_bytes: bytes.length };
      call.write({ header });
      for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
        call.write({ chunk: bytes.subarray(at, at + CHUNK_BYTES) });
      }
      call.end();
    });
  }

  async download(mediaId) {
    const call = this.services.MediaService.DownloadMedia(
      { media_id: mediaId },
      this.metadata,
      deadline(),
    );
    const chunks = [];
    let header;
    for await (const message of call) {
      if (message.part === "header") header = message.header;
      else chunks.push(message.chunk);
    }
    return { header, bytes: Buffer.concat(chunks) };
  }

  // Read one's own writes through any process.
  keepPosition(call) {
    call.on("status", (status) => {
      const [position] = status.metadata.get("millrace-position");
      if (position) this.metadata.set("millrace-position", position);
    });
  }
}

function deadline() {
  return { deadline: Date.now() + 30_000 };
}

const sha256 = (bytes) => crypto.createHash("sha256").update(bytes).digest("hex");

async function main() {
  const reflection = new GrpcReflection(address, grpc.credentials.createInsecure());
  const services = await reflection.listServices();
  const known = await stubs(reflection, services.filter((name) => name.startsWith("social.v1.")));
  const [ana, ben] = [new Person(known), new Person(known)];
  await ana.register(`ana.${suffix}`);
  await ben.register(`ben.${suffix}`);
  const item = await ana.upload(fs.readFileSync(pictureFile), "from node");
  const once = () => ({ request_id: crypto.randomUUID() });
  await ben.call("FollowsService", "Follow", { ...once(), user_id: ana.id });
  await ben.call("LikesService", "LikeMedia", { ...once(), media_id: item.id });
  let feed;
  // Stale: the views were too busy to reach Ben's position in time.
  do feed = await ben.call("FeedService", "GetFeed", { page_size: 10 });
  while (feed.stale);
  const { header, bytes } = await ben.download(item.id);
  const refused = await ben.register("!").catch((error) => error);
  console.log(
    JSON.stringify({
      services,
      ana: ana.id,
      ben: ben.id,
      uploaded: { ...item, sha256: item.sha256.toString("hex") },
      feed: feed.items.map(({ id, author, caption, likes_count, viewer_likes }) => ({
        id, handle: author.handle, caption, likes_count, viewer_likes,
      })),
      complete: feed.receipt.complete,
      downloaded: {
        kind: header.kind,
        size_bytes: bytes.length,
        sha256: sha256(bytes),
        announced: header.sha256.toString("hex"),
      },
      refused: grpc.status[refused.code],
    }),
  );
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
