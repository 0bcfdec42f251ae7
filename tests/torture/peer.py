"""A libzmq peer of the torture test: connects a socket, sends the messages it is told, and closes in order.

usage: peer.py KIND ENDPOINT. Each line of standard input is a message, its frames as `=` and hex; `end` is the last line. The answer is `ok`
once everything is handed over. What comes is read and thrown away.
"""

import sys
import time

import zmq

context = zmq.Context()
socket = context.socket(getattr(zmq, sys.argv[1]))
socket.setsockopt(zmq.SNDTIMEO, 30_000)
socket.setsockopt(zmq.RECONNECT_IVL, 5)
if sys.argv[1] == "SUB":
    socket.setsockopt(zmq.SUBSCRIBE, b"")
socket.connect(sys.argv[2])
poller = zmq.Poller()
poller.register(socket, zmq.POLLIN)


def drain():
    while sys.argv[1] != "PUSH" and socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
        socket.recv_multipart()


try:
    for line in sys.stdin:
        if line.strip() == "end":
            break
        socket.send_multipart([bytes.fromhex(word[1:]) for word in line.split()])
        drain()
    if sys.argv[1] not in ("PUSH",):
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            poller.poll(20)
            drain()
    # Closing waits until everything is with the system.
    socket.close(linger=30_000)
    context.term()
    print("ok", flush=True)
except zmq.ZMQError as error:
    print("no", error, flush=True)
