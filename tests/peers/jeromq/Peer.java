import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.dflib.jjava.shaded.org.zeromq.SocketType;
import org.dflib.jjava.shaded.org.zeromq.ZContext;
import org.dflib.jjava.shaded.org.zeromq.ZMQ;

/**
 * JeroMQ as a peer. It plays the roles of benches/compare/harness, whose words and lines it speaks: {@code key=value} in, one JSON object a
 * line out, {@code go} and the end of standard input from whoever started it.
 *
 * <p>The JeroMQ is that of the Jupyter kernel JJava, which has it under a name of its own.
 */
public final class Peer {
    private static final byte FILLING = 0x55;
    private static final long WARM_UP = -1;
    /** What JJava was made with. JeroMQ itself tells the version of libzmq that it is like. */
    private static final String VERSION = "0.6.0";
    /** How long this may take to end once its input has, in milliseconds. */
    private static final long GRACE = 5000;

    private final Map<String, String> job = new HashMap<>();
    private final CountDownLatch go = new CountDownLatch(1);
    private final CountDownLatch stop = new CountDownLatch(1);
    private final ZContext context = new ZContext();
    private final int bytes;
    private final int count;
    private final int window;
    private final int rate;
    private final String endpoint;
    private int received;
    private boolean heard;

    private Peer(String[] words) {
        for (String word : words) {
            String[] pair = word.split("=", 2);
            job.put(pair[0], pair[1]);
        }
        bytes = number("bytes", 64);
        count = number("count", 1000);
        window = number("window", 64);
        rate = number("rate", 0);
        endpoint = job.get("endpoint");
    }

    private int number(String key, int otherwise) {
        return Integer.parseInt(job.getOrDefault(key, Integer.toString(otherwise)));
    }

    public static void main(String[] words) {
        try {
            new Peer(words).play();
        } catch (Throwable why) {
            fail(why.toString());
        }
        // Threads that listen, and sockets that linger, are not waited for.
        Runtime.getRuntime().halt(0);
    }

    private void play() throws Exception {
        String role = job.getOrDefault("role", "about");
        if (role.equals("about")) {
            say("{\"version\":\"" + VERSION + "\",\"settings\":\"defaults\"}");
            return;
        }
        listen();
        switch (role) {
            case "pull": receiveAll(bound(SocketType.PULL)); break;
            case "push": sendAll(connected(SocketType.PUSH)); break;
            case "push_many": distribute(bound(SocketType.PUSH)); break;
            case "pull_many": receiveAll(connected(SocketType.PULL)); break;
            case "pub": distribute(bound(SocketType.PUB)); break;
            case "sub_many": receiveAll(subscribed()); break;
            case "rep": serve(bound(SocketType.REP), false); break;
            case "router": serve(bound(SocketType.ROUTER), true); break;
            case "req": ask(connected(SocketType.REQ), 1); break;
            case "dealer_many": ask(connected(SocketType.DEALER), window); break;
            default: throw new IllegalArgumentException("unknown role '" + role + "'");
        }
    }

    private ZMQ.Socket bound(SocketType type) {
        ZMQ.Socket socket = context.createSocket(type);
        if (!socket.bind(endpoint)) {
            throw new IllegalStateException("bind: " + socket.errno());
        }
        say("{\"bound\":true}");
        return socket;
    }

    private ZMQ.Socket connected(SocketType type) {
        ZMQ.Socket socket = context.createSocket(type);
        if (!socket.connect(endpoint)) {
            throw new IllegalStateException("connect: " + socket.errno());
        }
        return socket;
    }

    private ZMQ.Socket subscribed() {
        ZMQ.Socket socket = context.createSocket(SocketType.SUB);
        socket.subscribe(ZMQ.SUBSCRIPTION_ALL);
        socket.connect(endpoint);
        return socket;
    }

    private void receiveAll(ZMQ.Socket socket) throws InterruptedException {
        while (received < count) {
            check(socket.recv());
        }
        report();
        stop.await();
    }

    private void sendAll(ZMQ.Socket socket) throws InterruptedException {
        long begin = System.nanoTime();
        for (int number = 0; number < count; number++) {
            if (rate > 0) {
                long due = begin + number * 1_000_000_000L / rate;
                while (System.nanoTime() < due) {
                    LockSupport.parkNanos(due - System.nanoTime());
                }
            }
            send(socket, stamped(number));
        }
        received = count;
        stop.await();
        report();
    }

    private void distribute(ZMQ.Socket socket) throws InterruptedException {
        while (go.getCount() > 0) {
            send(socket, stamped(WARM_UP));
            go.await(1, TimeUnit.MILLISECONDS);
        }
        sendAll(socket);
    }

    private void serve(ZMQ.Socket socket, boolean addressed) throws InterruptedException {
        while (received < count) {
            byte[] sender = addressed ? socket.recv() : null;
            byte[] body = socket.recv();
            check(body);
            if (addressed) {
                socket.sendMore(sender);
            }
            send(socket, body);
        }
        stop.await();
        report();
    }

    private void ask(ZMQ.Socket socket, int ahead) throws InterruptedException {
        int sent = 0;
        while (received < count) {
            while (sent < count && sent - received < ahead) {
                send(socket, stamped(sent++));
            }
            check(socket.recv());
        }
        report();
        stop.await();
    }

    private static void send(ZMQ.Socket socket, byte[] body) {
        if (!socket.send(body)) {
            throw new IllegalStateException("send: " + socket.errno());
        }
    }

    private byte[] stamped(long number) {
        byte[] body = new byte[bytes];
        Arrays.fill(body, FILLING);
        ByteBuffer.wrap(body).order(ByteOrder.LITTLE_ENDIAN).putLong(number);
        return body;
    }

    /** Looks at what is received: each whole, none missing, all in order. */
    private void check(byte[] body) {
        if (body.length != bytes) {
            throw new IllegalStateException("a message of " + body.length + " bytes instead of " + bytes);
        }
        for (int at = 8; at < bytes; at++) {
            if (body[at] != FILLING) {
                throw new IllegalStateException("a message with other bytes than were sent");
            }
        }
        long number = ByteBuffer.wrap(body).order(ByteOrder.LITTLE_ENDIAN).getLong();
        if (number == WARM_UP) {
            if (!heard) {
                say("{\"ready\":true}");
            }
            heard = true;
        } else if (number == received) {
            received++;
        } else {
            throw new IllegalStateException("message " + number + " where " + received + " was due");
        }
    }

    private void report() {
        say("{\"messages\":" + received + "}");
    }

    private void listen() {
        Thread listener = new Thread(() -> {
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
            try {
                for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                    if (line.equals("go")) {
                        go.countDown();
                    }
                }
                go.countDown();
                stop.countDown();
                Thread.sleep(GRACE);
            } catch (Exception why) {
                fail(why.toString());
            }
            fail("stopped before it was through");
        });
        listener.setDaemon(true);
        listener.start();
    }

    private static void say(String line) {
        synchronized (System.out) {
            System.out.println(line);
            System.out.flush();
        }
    }

    private static void fail(String why) {
        say("{\"failed\":\"" + why.replace('\\', '/').replace('"', '\'') + "\"}");
        Runtime.getRuntime().halt(2);
    }
}
