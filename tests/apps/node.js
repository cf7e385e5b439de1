// SPDX-License-Identifier: MIT
// node.js server HOST PORT: an HTTP server of Node's that answers /N with N bytes, takes what is sent to it and tells the sum,
// and at PORT + 1000 echoes a stream, one side of a pipe at a time.
// node.js http|streams HOST PORT COUNT: its client, with kept connections; prints the sums of what came.
const http = require("http"), net = require("net"), crypto = require("crypto"), { pipeline, Readable } = require("stream");
const [what, host, port, count] = [process.argv[2], process.argv[3], +process.argv[4], +process.argv[5]];
const SIZES = [1, 100, 3000, 40000, 300000];
const CLIENTS = 4;

// the same bytes for the same number
function bytes(n, seed) {
	const b = Buffer.alloc(n);
	for (let i = 0, x = seed * 2654435761 >>> 0; i < n; i++) {
		x = (x * 1664525 + 1013904223) >>> 0;
		b[i] = x >>> 24;
	}
	return b;
}

function server() {
	const kept = new Map(SIZES.map((n) => [n, bytes(n, n)]));
	http.createServer({ keepAliveTimeout: 60000 }, (req, res) => {
		if (req.method === "GET") {
			res.end(kept.get(+req.url.slice(1)));
			return;
		}
		const sum = crypto.createHash("sha256");
		req.on("data", (d) => sum.update(d));
		req.on("end", () => res.end(sum.digest("hex")));
	}).listen(port, host);
	net.createServer({ allowHalfOpen: true }, (s) => pipeline(s, s, () => {})).listen(port + 1000, host);
	process.on("SIGTERM", () => process.exit(0));
}

function ask(agent, method, path, body) {
	return new Promise((done, failed) => {
		const req = http.request({ agent, host, port, method, path }, (res) => {
			const parts = [];
			res.on("data", (d) => parts.push(d));
			res.on("end", () => done(Buffer.concat(parts)));
			res.on("error", failed);
		});
		req.on("error", failed);
		req.end(body);
	});
}

async function httpClient(number) {
	const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
	const sum = crypto.createHash("sha256");
	for (let i = 0; i < count; i++) {
		const n = SIZES[(i + number) % SIZES.length];
		sum.update(await ask(agent, "GET", "/" + n));
		if (i % 10 === 0)
			sum.update(await ask(agent, "PUT", "/", bytes(n, i)));
	}
	agent.destroy();
	return sum.digest("hex");
}

// COUNT pieces of 64 KiB through the echo by streams, which stop and go on as the other end takes them
function streamClient(number) {
	return new Promise((done, failed) => {
		const sum = crypto.createHash("sha256"), sent = crypto.createHash("sha256"), piece = bytes(65536, number);
		const s = net.connect({ host, port: port + 1000, allowHalfOpen: true });
		let i = 0;
		const source = new Readable({
			read() {
				if (i === count)
					return void this.push(null);
				const b = Buffer.from(piece);
				b.writeUInt32LE(i++);
				sent.update(b);
				this.push(b);
			}
		});
		pipeline(source, s, (e) => e && failed(e));
		s.on("data", (d) => sum.update(d));
		s.on("end", () => {
			const [a, b] = [sum.digest("hex"), sent.digest("hex")];
			return a === b ? done(a) : failed(new Error("what came back is not what was sent"));
		});
	});
}

if (what === "server") {
	server();
} else {
	const client = what === "http" ? httpClient : streamClient;
	Promise.all([...Array(CLIENTS).keys()].map(client)).then((sums) => console.log(sums.join("\n")),
		(e) => { console.error(e); process.exit(1); });
}
