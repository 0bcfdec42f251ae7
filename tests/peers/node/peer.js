// The npm package `zeromq` as a peer. It plays the roles of benches/compare/harness, whose words and lines it speaks: `key=value` in, one
// JSON object a line out, `go` and the end of standard input from whoever started it.
"use strict"

const readline = require("node:readline")
const zmq = require("zeromq")

const FILLING = 0x55
const WARM_UP = 0xffff_ffff_ffff_ffffn
// How long this may take to end once its input has.
const GRACE = 5000

const job = { role: "about", bytes: 64, count: 1000, warmup: 0, peers: 1, window: 64, rate: 0 }
for (const word of process.argv.slice(2)) {
  const [key, value] = word.split(/=(.*)/s)
  job[key] = typeof job[key] === "number" ? Number(value) : value
}

const say = what => process.stdout.write(JSON.stringify(what) + "\n")
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

// What was heard so far, and whoever waits for it.
let mayGo = false
let hearGo, hearStop
const go = new Promise(resolve => (hearGo = resolve))
const stop = new Promise(resolve => (hearStop = resolve))

function listen() {
  const lines = readline.createInterface({ input: process.stdin })
  lines.on("line", line => line === "go" && ((mayGo = true), hearGo()))
  lines.on("close", () => {
    mayGo = true
    hearGo()
    hearStop()
    setTimeout(() => fail("stopped before it was through"), GRACE).unref()
  })
}

function fail(why) {
  say({ failed: String(why) })
  process.exit(2)
}

function stamped(number) {
  const body = Buffer.alloc(job.bytes, FILLING)
  body.writeBigUInt64LE(BigInt(number), 0)
  return body
}

// Looks at what is received: each whole, none missing, all in order.
class Check {
  received = 0
  #heard = false

  on(frames) {
    const body = frames[frames.length - 1]
    if (body.length !== job.bytes) {
      throw new Error(`a message of ${body.length} bytes instead of ${job.bytes}`)
    }
    if (!body.subarray(8).every(byte => byte === FILLING)) {
      throw new Error("a message with other bytes than were sent")
    }
    const number = body.readBigUInt64LE(0)
    if (number === WARM_UP) {
      if (!this.#heard) say({ ready: true })
      this.#heard = true
      return
    }
    if (number !== BigInt(this.received)) {
      throw new Error(`message ${number} where ${this.received} was due`)
    }
    this.received++
  }
}

async function report(messages) {
  await stop
  say({ messages })
}

async function receiveAll(socket) {
  const check = new Check()
  while (check.received < job.count) check.on(await socket.receive())
  say({ messages: check.received })
  await stop
}

async function sendAll(socket) {
  const begin = performance.now()
  for (let number = 0; number < job.count; number++) {
    const due = job.rate > 0 ? begin + (number * 1000) / job.rate : 0
    while (performance.now() < due) await pause(1)
    await socket.send(stamped(number))
  }
  await report(job.count)
}

async function distribute(socket) {
  await socket.bind(job.endpoint)
  say({ bound: true })
  while (!mayGo) {
    await socket.send(stamped(WARM_UP))
    await pause(1)
  }
  await go
  await sendAll(socket)
}

async function echo(socket) {
  await socket.bind(job.endpoint)
  say({ bound: true })
  const check = new Check()
  while (check.received < job.count) {
    const frames = await socket.receive()
    check.on(frames)
    await socket.send(frames)
  }
  await report(check.received)
}

const roles = {
  async about() {
    say({ version: require("zeromq/package.json").version, settings: `libzmq ${zmq.version}` })
  },
  async pull() {
    const socket = new zmq.Pull()
    await socket.bind(job.endpoint)
    say({ bound: true })
    await receiveAll(socket)
  },
  async push() {
    const socket = new zmq.Push()
    socket.connect(job.endpoint)
    await sendAll(socket)
  },
  push_many: () => distribute(new zmq.Push()),
  pub: () => distribute(new zmq.Publisher({ noDrop: true })),
  async pull_many() {
    const socket = new zmq.Pull()
    socket.connect(job.endpoint)
    await receiveAll(socket)
  },
  async sub_many() {
    const socket = new zmq.Subscriber()
    socket.subscribe()
    socket.connect(job.endpoint)
    await receiveAll(socket)
  },
  rep: () => echo(new zmq.Reply()),
  async req() {
    const socket = new zmq.Request()
    socket.connect(job.endpoint)
    const check = new Check()
    while (check.received < job.count) {
      await socket.send(stamped(check.received))
      check.on(await socket.receive())
    }
    say({ messages: check.received })
    await stop
  },
  router: () => echo(new zmq.Router({ mandatory: true })),
  async dealer_many() {
    const socket = new zmq.Dealer()
    socket.connect(job.endpoint)
    const check = new Check()
    let sent = 0
    while (check.received < job.count) {
      while (sent < job.count && sent - check.received < job.window) await socket.send(stamped(sent++))
      check.on(await socket.receive())
    }
    say({ messages: check.received })
    await stop
  },
}

if (job.role !== "about") listen()
const play = roles[job.role] ?? (() => fail(`unknown role '${job.role}'`))
play().then(
  () => process.exit(0),
  why => fail(why),
)
