// SPDX-License-Identifier: MIT
/*
 * Nio.java - java Nio.java server HOST PORT: echoes, one Selector for all connections, direct buffers.
 * java Nio.java client HOST PORT CONNECTIONS ROUNDS: one Selector, non-blocking connects; and as many threads with blocking
 * sockets. Prints the sum of what came back over each.
 */
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.security.MessageDigest;
import java.util.*;

public class Nio {
	static final int[] SIZES = { 1, 500, 9000, 120000 };

	static class Echo {
		final ByteBuffer buf = ByteBuffer.allocateDirect(256 * 1024);
		boolean ended;
	}

	static void server(InetSocketAddress at) throws IOException {
		Selector sel = Selector.open();
		ServerSocketChannel l = ServerSocketChannel.open();
		l.bind(at, 50);
		l.configureBlocking(false);
		l.register(sel, SelectionKey.OP_ACCEPT);
		while (true) {
			sel.select();
			for (Iterator<SelectionKey> i = sel.selectedKeys().iterator(); i.hasNext();) {
				SelectionKey k = i.next();
				i.remove();
				if (k.isAcceptable()) {
					SocketChannel c = l.accept();
					c.configureBlocking(false);
					c.register(sel, SelectionKey.OP_READ, new Echo());
					continue;
				}
				Echo e = (Echo) k.attachment();
				SocketChannel c = (SocketChannel) k.channel();
				if (k.isReadable() && c.read(e.buf) < 0)
					e.ended = true;
				e.buf.flip();
				c.write(e.buf);
				boolean more = e.buf.hasRemaining();
				e.buf.compact();
				if (e.ended && !more)
					c.close();
				else
					k.interestOps((more ? SelectionKey.OP_WRITE : 0) |
						(!e.ended && e.buf.hasRemaining() ? SelectionKey.OP_READ : 0));
			}
		}
	}

	static byte[] message(int number, int round) {
		byte[] b = new byte[SIZES[(number + round) % SIZES.length]];
		new Random(number * 100003L + round).nextBytes(b);
		return b;
	}

	static class Asker {
		int number, round;
		ByteBuffer out, in;
		MessageDigest sum;

		void next() {
			out = ByteBuffer.wrap(message(number, round));
			in = ByteBuffer.allocate(out.capacity());
		}
	}

	static void selecting(InetSocketAddress to, int n, int rounds, String[] sums) throws Exception {
		Selector sel = Selector.open();
		int open = n;
		for (int i = 0; i < n; i++) {
			SocketChannel c = SocketChannel.open();
			c.configureBlocking(false);
			Asker a = new Asker();
			a.number = i;
			a.sum = MessageDigest.getInstance("SHA-256");
			a.next();
			c.connect(to);
			c.register(sel, SelectionKey.OP_CONNECT, a);
		}
		while (open > 0) {
			if (sel.select(60000) == 0)
				throw new IOException("nothing has come for a minute");
			for (Iterator<SelectionKey> i = sel.selectedKeys().iterator(); i.hasNext();) {
				SelectionKey k = i.next();
				i.remove();
				Asker a = (Asker) k.attachment();
				SocketChannel c = (SocketChannel) k.channel();
				if (k.isConnectable()) {
					c.finishConnect();
					k.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
					continue;
				}
				if (k.isWritable())
					c.write(a.out);
				if (k.isReadable() && c.read(a.in) < 0)
					throw new EOFException("closed early");
				if (!a.in.hasRemaining()) {
					a.sum.update(a.in.array());
					if (++a.round == rounds) {
						sums[a.number] = HexFormat.of().formatHex(a.sum.digest());
						c.close();
						open--;
						continue;
					}
					a.next();
				}
				k.interestOps(SelectionKey.OP_READ | (a.out.hasRemaining() ? SelectionKey.OP_WRITE : 0));
			}
		}
	}

	static void blocking(InetSocketAddress to, int number, int rounds, String[] sums) throws Exception {
		MessageDigest sum = MessageDigest.getInstance("SHA-256");
		try (Socket s = new Socket(to.getAddress(), to.getPort())) {
			s.setSoTimeout(60000);
			s.setTcpNoDelay(true);
			for (int r = 0; r < rounds; r++) {
				byte[] b = message(number, r);
				s.getOutputStream().write(b);
				sum.update(s.getInputStream().readNBytes(b.length));
			}
			s.shutdownOutput();
			if (s.getInputStream().read() != -1)
				throw new IOException("more than was asked for");
		}
		sums[number] = HexFormat.of().formatHex(sum.digest());
	}

	public static void main(String[] args) throws Exception {
		InetSocketAddress at = new InetSocketAddress(args[1], Integer.parseInt(args[2]));
		if (args[0].equals("server")) {
			server(at);
			return;
		}
		int n = Integer.parseInt(args[3]), rounds = Integer.parseInt(args[4]);
		String[] sums = new String[n], threadSums = new String[n];
		List<Thread> threads = new ArrayList<>();
		for (int i = 0; i < n; i++) {
			int number = i;
			Thread t = new Thread(() -> {
				try {
					blocking(at, number, rounds, threadSums);
				} catch (Exception e) {
					e.printStackTrace();
				}
			});
			threads.add(t);
			t.start();
		}
		selecting(at, n, rounds, sums);
		for (Thread t : threads)
			t.join();
		for (int i = 0; i < n; i++)
			System.out.println(sums[i] + " " + threadSums[i]);
	}
}
