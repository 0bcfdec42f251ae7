"""A libzmq peer that does as it is told.

Reads one command a line from standard input and answers each with one line: `ok`, values behind it, or `no` and why.
It ends when its input does. tests/interop/peer.rs is the other side of the conversation.

    socket NAME KIND              makes a socket; KIND as in DEALER
    set NAME OPTION VALUE         OPTION as in SNDHWM; VALUE a number, or octets
    get NAME OPTION               the option's value, octets as hex
    bind NAME ENDPOINT            the endpoint it is bound to, wildcards resolved
    connect NAME ENDPOINT         likewise: disconnect, unbind
    close NAME
    send NAME BODY...             one message
    expect NAME BODY...           the next message has exactly these frames
    recv NAME                     the next message, each frame as hex
    about NAME PROPERTY...        of the next message: its properties as hex, `-` for none
    quiet NAME MILLISECONDS       no message comes
    await NAME MILLISECONDS       whether a message is there in time: 1 or 0
    stream NAME COUNT SIZE        sends numbered messages
    sink NAME COUNT SIZE          receives what `stream` sends, in order, with none missing
    duplex NAME COUNT SIZE        both at once
    conflated NAME NUMBER SIZE    receives numbered messages with rising numbers until that number comes
    watch NAME                    from now on notes the socket's events
    event NAME EVENT              waits for an event; EVENT as in HANDSHAKE_SUCCEEDED
    steady NAME MILLISECONDS      no connection is lost or refused
    proxy FRONT BACK              forwards between two sockets from now on

A BODY is `=` and hex, or SIZE/SEED for made-up octets that both sides can make.
"""

import queue
import signal
import sys
import threading
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

# How long a command may wait for the other side, in milliseconds, and how long it may take in all, in seconds.
PATIENCE = 20_000
ALARM = 120


def pattern():
    """The octets that made-up bodies are cut from. Their number is a prime, so that no power of two lines up with it."""
    state, octets = 1, bytearray()
    for _ in range(65_521):
        state = (state * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        octets.append(state >> 16 & 255)
    return bytes(octets)


PATTERN = pattern()


def made_up(size, seed):
    start = seed % len(PATTERN)
    return (PATTERN * ((start + size) // len(PATTERN) + 1))[start : start + size]


def body(word):
    if word.startswith("="):
        return bytes.fromhex(word[1:])
    size, seed = word.split("/")
    return made_up(int(size), int(seed))


def numbered(number, size):
    return number.to_bytes(8, "big") + made_up(size - 8, number)


class Wrong(Exception):
    """Something is not as it was to be."""


class Peer:
    def __init__(self):
        self.context = zmq.Context()
        self.sockets = {}
        self.monitors = {}
        self.watched = 0

    def socket(self, name, kind):
        socket = self.context.socket(getattr(zmq, kind))
        socket.setsockopt(zmq.RCVTIMEO, PATIENCE)
        socket.setsockopt(zmq.SNDTIMEO, PATIENCE)
        self.sockets[name] = socket

    def set(self, name, option, value):
        value = body(value) if value.startswith("=") else int(value)
        self.sockets[name].setsockopt(getattr(zmq, option), value)

    def get(self, name, option):
        value = self.sockets[name].getsockopt(getattr(zmq, option))
        return value.hex() if isinstance(value, bytes) else str(value)

    def bind(self, name, endpoint):
        self.sockets[name].bind(endpoint)
        return self.sockets[name].getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()

    def connect(self, name, endpoint):
        self.sockets[name].connect(endpoint)

    def disconnect(self, name, endpoint):
        self.sockets[name].disconnect(endpoint)

    def unbind(self, name, endpoint):
        self.sockets[name].unbind(endpoint)

    def close(self, name):
        if name in self.monitors:
            # In this order: an event for a reader that is gone would block the whole process.
            self.sockets[name].monitor(None, 0)
            self.monitors.pop(name).close()
        self.sockets.pop(name).close()

    def send(self, name, *words):
        self.sockets[name].send_multipart([body(word) for word in words])

    def expect(self, name, *words):
        wanted = [body(word) for word in words]
        found = self.sockets[name].recv_multipart()
        if [len(frame) for frame in found] != [len(frame) for frame in wanted]:
            raise Wrong(f"frames of {[len(f) for f in found]} octets instead of {[len(f) for f in wanted]}: {brief(found)}")
        for number, (one, other) in enumerate(zip(found, wanted)):
            if one != other:
                at = next(at for at in range(len(one)) if one[at] != other[at])
                raise Wrong(f"frame {number} differs at octet {at} of {len(one)}: {one[at]} instead of {other[at]}")

    def recv(self, name):
        return " ".join("=" + frame.hex() for frame in self.sockets[name].recv_multipart())

    def about(self, name, *properties):
        frame = self.sockets[name].recv_multipart(copy=False)[-1]
        values = []
        for wanted in properties:
            try:
                value = frame.get(wanted)
                values.append("=" + (value if isinstance(value, bytes) else str(value).encode()).hex())
            except (zmq.ZMQError, KeyError):
                values.append("-")
        return " ".join(values)

    def quiet(self, name, milliseconds):
        if self.sockets[name].poll(int(milliseconds)):
            raise Wrong(f"a message came: {brief(self.sockets[name].recv_multipart())}")

    def await_(self, name, milliseconds):
        return str(int(bool(self.sockets[name].poll(int(milliseconds)))))

    def stream(self, name, count, size):
        send = self.sockets[name].send
        for number in range(int(count)):
            send(numbered(number, int(size)))

    def sink(self, name, count, size):
        recv = self.sockets[name].recv
        for number in range(int(count)):
            found = recv()
            if found != numbered(number, int(size)):
                raise Wrong(f"message {number} is not what was sent: number {int.from_bytes(found[:8], 'big')}")

    def duplex(self, name, count, size):
        socket, count, size = self.sockets[name], int(count), int(size)
        sent = received = 0
        while sent < count or received < count:
            wanted = (zmq.POLLOUT if sent < count else 0) | (zmq.POLLIN if received < count else 0)
            ready = socket.poll(PATIENCE, wanted)
            if not ready:
                raise Wrong(f"stuck after {sent} sent and {received} received")
            # A batch each way: polling for every message would be most of the work.
            try:
                for _ in range(100 if ready & zmq.POLLOUT else 0):
                    if sent < count:
                        socket.send(numbered(sent, size), zmq.DONTWAIT)
                        sent += 1
            except zmq.Again:
                pass
            try:
                for _ in range(100 if ready & zmq.POLLIN else 0):
                    if received < count:
                        found = socket.recv(zmq.DONTWAIT)
                        if found != numbered(received, size):
                            raise Wrong(f"message {received} has number {int.from_bytes(found[:8], 'big')}")
                        received += 1
            except zmq.Again:
                pass

    def conflated(self, name, last, size):
        before, count = -1, 0
        while before < int(last):
            found = self.sockets[name].recv()
            number = int.from_bytes(found[:8], "big")
            if number <= before or found != numbered(number, int(size)):
                raise Wrong(f"number {number} came after {before}")
            before, count = number, count + 1
        return str(count)

    def watch(self, name):
        # A name of its own for each: a closed socket lets go of its monitor's name some time later.
        self.watched += 1
        self.sockets[name].monitor(f"inproc://events-{self.watched}", zmq.EVENT_ALL)
        self.monitors[name] = self.context.socket(zmq.PAIR)
        self.monitors[name].connect(f"inproc://events-{self.watched}")

    def event(self, name, wanted):
        wanted, seen = getattr(zmq, "EVENT_" + wanted), []
        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline:
            if self.monitors[name].poll(max(0, int((deadline - time.monotonic()) * 1000))):
                event = recv_monitor_message(self.monitors[name])["event"]
                if event == wanted:
                    return
                seen.append(zmq.Event(event).name)
        raise Wrong(f"no such event; there were {seen}")

    def steady(self, name, milliseconds):
        bad = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        deadline = time.monotonic() + int(milliseconds) / 1000
        while (left := deadline - time.monotonic()) > 0:
            if self.monitors[name].poll(int(left * 1000) + 1):
                event = recv_monitor_message(self.monitors[name])["event"]
                if event & bad:
                    raise Wrong(f"there was the event {zmq.Event(event).name}")

    def proxy(self, front, back):
        # From here on they are that thread's alone.
        sockets = self.sockets.pop(front), self.sockets.pop(back)
        for socket in sockets:
            # A proxy has nothing else to do.
            socket.setsockopt(zmq.RCVTIMEO, -1)
            socket.setsockopt(zmq.SNDTIMEO, -1)
        threading.Thread(target=lambda: zmq.proxy(*sockets), daemon=True).start()


def brief(frames):
    return b" | ".join(frame[:40] for frame in frames)


def answer(peer, words):
    name = words[0] + "_" if words[0] == "await" else words[0]
    try:
        return f"ok {getattr(peer, name)(*words[1:]) or ''}".strip()
    except zmq.ZMQError as error:
        return f"no {zmq.Errno(error.errno).name} {error}"
    except Exception as error:  # whatever it is, the test wants to know
        return f"no {type(error).__name__} {error}".replace("\n", " ")


def commands(peer):
    """The lines of standard input. Between them every socket is looked at: libzmq takes on new connections, and tells them what
    they are to know, only while its application calls it, as one in an event loop does all the time."""
    lines = queue.SimpleQueue()
    threading.Thread(target=lambda: [lines.put(line) for line in sys.stdin] + [lines.put(None)], daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=0.01)
        except queue.Empty:
            for socket in peer.sockets.values():
                socket.getsockopt(zmq.EVENTS)
            continue
        if line is None:
            return
        yield line


def main():
    peer = Peer()
    for line in commands(peer):
        signal.alarm(ALARM)
        print(answer(peer, line.split()), flush=True)
        signal.alarm(0)
    # The other side is gone: so is all that could still be delivered.
    peer.context.destroy(linger=0)


main()
