import java.io.BufferedInputStream;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Drives Apache Kafka's Java client as protocol.md says. */
public final class Driver {
    private static final int MAX_MESSAGE_BYTES = 2 << 20;
    private static final int COMMIT_EVERY = 300;
    private static final Duration POLL = Duration.ofMillis(200);
    private static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);

    private final String bootstrap;
    private final String groupProtocol;
    /** Of classic groups: the class that assigns; empty: the client's own choice. */
    private final String assignor;
    private final Map<String, Member> members = new ConcurrentHashMap<>();
    private final Map<String, KafkaProducer<byte[], byte[]>> transactional = new ConcurrentHashMap<>();
    private final Set<String> inTransaction = ConcurrentHashMap.newKeySet();

    private Driver(String bootstrap, String groupProtocol, String assignor) {
        this.bootstrap = bootstrap;
        this.groupProtocol = groupProtocol;
        this.assignor = assignor;
    }

    public static void main(String[] arguments) throws Exception {
        // In any order: names and values by turns.
        Map<String, String> given = new HashMap<>(Map.of("--group-protocol", "classic", "--assignor", ""));
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            given.put(arguments[i], arguments[i + 1]);
        }
        if (arguments.length % 2 != 0 || given.size() != 3 || given.get("--bootstrap") == null) {
            System.err.println("usage: Driver --bootstrap HOST:PORT [--group-protocol consumer] [--assignor range|cooperative-sticky]");
            System.exit(2);
        }
        new Driver(given.get("--bootstrap"), given.get("--group-protocol"), assignor(given.get("--assignor"))).serve();
        OUT.flush();
        System.exit(0);
    }

    private static String assignor(String name) {
        return switch (name) {
            case "range" -> "org.apache.kafka.clients.consumer.RangeAssignor";
            case "cooperative-sticky" -> "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
            default -> "";
        };
    }

    private interface Work {
        void run() throws Exception;
    }

    private void serve() throws Exception {
        say("ready " + AppInfoParser.getVersion());
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.trim().split(" +");
            switch (words[0]) {
                case "create" -> start("create", () -> create(words[1], Integer.parseInt(words[2]), words[3]));
                case "produce" -> start("produce", () -> produce(words[1], words[2]));
                case "read" -> start("read", () -> read(words[1], words[2]));
                case "join" -> {
                    Member member = new Member(words[1], words[2], words[3]);
                    members.put(words[1], member);
                    member.thread = start(null, member::run);
                }
                case "leave" -> start("leave " + words[1], () -> {
                    members.get(words[1]).leaving = true;
                    members.get(words[1]).thread.join();
                });
                case "open" -> step(words, () -> transactional.put(words[1], open(words[2], words[3])));
                case "write" -> step(words, () -> write(words[1], words[2], Integer.parseInt(words[3]), words[4]));
                case "end" -> step(words, () -> end(words[1], words[2].equals("commit")));
                case "chain" -> step(words,
                    () -> chain(words[1], words[2], words[3], words[4], Integer.parseInt(words[5]), words[6]));
                case "scan" -> start("scan", () -> scan(words[1], Integer.parseInt(words[2]), words[3], words[4]));
                default -> say("E unknown command " + words[0]);
            }
        }
    }

    /** Says what became of one thing done with a transactional producer; whether that is right is judged elsewhere. */
    private static void step(String[] words, Work work) {
        start(null, () -> {
            String outcome = "ok";
            try {
                work.run();
            } catch (Exception failure) {
                outcome = "failed " + failure.toString().replaceAll("\\s+", " ");
            }
            say("T " + words[1] + " " + words[0] + " " + outcome);
        });
    }

    private KafkaProducer<byte[], byte[]> open(String id, String timeoutMs) {
        KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(
            properties("transactional.id", id, "transaction.timeout.ms", timeoutMs),
            new ByteArraySerializer(), new ByteArraySerializer());
        producer.initTransactions();
        return producer;
    }

    private void write(String name, String topic, int partition, String value) throws Exception {
        if (inTransaction.add(name)) {
            transactional.get(name).beginTransaction();
        }
        byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
        transactional.get(name).send(new ProducerRecord<>(topic, partition, null, bytes)).get();
    }

    private void end(String name, boolean commit) {
        inTransaction.remove(name);
        if (commit) {
            transactional.get(name).commitTransaction();
        } else {
            transactional.get(name).abortTransaction();
        }
    }

    private void chain(String name, String source, String sink, String group, int partitions, String last) {
        KafkaProducer<byte[], byte[]> producer = transactional.get(name);
        Set<Integer> left = new HashSet<>();
        for (int partition = 0; partition < partitions; partition++) {
            left.add(partition);
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("isolation.level", "read_committed", "group.id", group)) {
            consumer.subscribe(List.of(source));
            boolean first = true;
            while (!left.isEmpty()) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(POLL);
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                Set<Integer> done = new HashSet<>();
                Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    String value = new String(record.value(), StandardCharsets.UTF_8);
                    byte[] passedOn = (value + "+").getBytes(StandardCharsets.UTF_8);
                    producer.send(new ProducerRecord<>(sink, record.partition(), null, passedOn));
                    next.put(new TopicPartition(source, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                    if (value.equals(last)) {
                        done.add(record.partition());
                    }
                }
                // So that what is aborted was there.
                producer.flush();
                producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
                if (first) {
                    producer.abortTransaction();
                    goBack(consumer);
                } else {
                    producer.commitTransaction();
                    left.removeAll(done);
                }
                first = false;
            }
        }
    }

    /** To what the group has committed. */
    private static void goBack(KafkaConsumer<byte[], byte[]> consumer) {
        consumer.committed(consumer.assignment()).forEach((place, committed) -> {
            if (committed == null) {
                consumer.seekToBeginning(List.of(place));
            } else {
                consumer.seek(place, committed.offset());
            }
        });
    }

    private void scan(String topic, int partitions, String last, String isolation) {
        List<TopicPartition> left = new ArrayList<>();
        for (int partition = 0; partition < partitions; partition++) {
            left.add(new TopicPartition(topic, partition));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("isolation.level", isolation)) {
            consumer.assign(List.copyOf(left));
            consumer.seekToBeginning(List.copyOf(left));
            while (!left.isEmpty()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    String value = new String(record.value(), StandardCharsets.UTF_8);
                    say("V " + record.partition() + " " + value);
                    if (value.equals(last)) {
                        left.remove(new TopicPartition(topic, record.partition()));
                    }
                }
            }
        }
    }

    /** Says at its end that it is done, or what went wrong. */
    private static Thread start(String what, Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
                if (what != null) {
                    say("ok " + what);
                }
            } catch (Throwable failure) {
                StringWriter trace = new StringWriter();
                failure.printStackTrace(new PrintWriter(trace));
                say("E " + trace.toString().replaceAll("\\s+", " "));
            }
        });
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private static void say(String line) {
        synchronized (OUT) {
            OUT.print(line + "\n");
            OUT.flush();
        }
    }

    private static void say(String reader, ConsumerRecord<byte[], byte[]> record) {
        if (record.timestampType() != TimestampType.CREATE_TIME) {
            throw new IllegalStateException("timestamp type " + record.timestampType() + " at " + record.offset());
        }
        say("M " + reader + " " + record.partition() + " " + record.offset() + " " + record.timestamp() + " "
            + digest(record.key()) + " " + digest(record.value()) + " " + digest(record.headers()));
    }

    private static String hash(byte[] bytes) {
        try {
            byte[] sum = MessageDigest.getInstance("SHA-256").digest(bytes);
            return HexFormat.of().formatHex(sum, 0, 8);
        } catch (java.security.NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static String digest(byte[] part) {
        return part == null ? "-" : part.length + ":" + hash(part);
    }

    private static String digest(Headers headers) {
        ByteArrayOutputStream encoded = new ByteArrayOutputStream();
        int count = 0;
        try (DataOutputStream out = new DataOutputStream(encoded)) {
            for (Header header : headers) {
                count++;
                byte[] name = header.key().getBytes(StandardCharsets.UTF_8);
                out.writeInt(name.length);
                out.write(name);
                out.writeInt(header.value() == null ? -1 : header.value().length);
                if (header.value() != null) {
                    out.write(header.value());
                }
            }
        } catch (IOException impossible) {
            throw new IllegalStateException(impossible);
        }
        return count + ":" + hash(encoded.toByteArray());
    }

    private Properties properties(String... pairs) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < pairs.length; i += 2) {
            properties.put(pairs[i], pairs[i + 1]);
        }
        return properties;
    }

    private void create(String topic, int partitions, String settings) throws Exception {
        try (Admin admin = Admin.create(properties())) {
            Map<String, String> configs = new HashMap<>();
            for (String setting : settings.split(",")) {
                configs.put(setting.split("=")[0], setting.split("=")[1]);
            }
            NewTopic wanted = new NewTopic(topic, partitions, (short) 1).configs(configs);
            admin.createTopics(List.of(wanted)).all().get();
        }
    }

    private static byte[] part(DataInputStream in) throws IOException {
        int length = in.readInt();
        return length < 0 ? null : in.readNBytes(length);
    }

    private void produce(String topic, String path) throws Exception {
        Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
        AtomicReference<Exception> failed = new AtomicReference<>();
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(new FileInputStream(path), 1 << 20))) {
            while (true) {
                int index;
                try {
                    index = in.readInt();
                } catch (EOFException end) {
                    break;
                }
                String codec = CODECS[in.readUnsignedByte()];
                int partition = in.readInt();
                long timestamp = in.readLong();
                byte[] key = part(in);
                byte[] value = part(in);
                List<Header> headers = new ArrayList<>();
                for (int left = in.readInt(); left > 0; left--) {
                    String name = new String(part(in), StandardCharsets.UTF_8);
                    headers.add(new RecordHeader(name, part(in)));
                }
                producers.computeIfAbsent(codec, this::producer).send(
                    new ProducerRecord<>(topic, partition < 0 ? null : partition, timestamp, key, value, headers),
                    (found, failure) -> {
                        if (failure != null) {
                            failed.set(failure);
                        } else {
                            say("A " + index + " " + found.partition() + " " + found.offset());
                        }
                    });
            }
        }
        for (KafkaProducer<byte[], byte[]> producer : producers.values()) {
            producer.flush();
            producer.close();
        }
        if (failed.get() != null) {
            throw failed.get();
        }
    }

    private KafkaProducer<byte[], byte[]> producer(String codec) {
        return new KafkaProducer<>(
            properties("compression.type", codec, "enable.idempotence", "true", "acks", "all", "linger.ms", "5",
                "batch.size", "65536", "max.request.size", String.valueOf(MAX_MESSAGE_BYTES - 1024)),
            new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer(String... more) {
        Properties properties = properties(more);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        if (groupProtocol.equals("classic")) {
            properties.put("session.timeout.ms", "10000");
            properties.put("heartbeat.interval.ms", "1000");
            if (!assignor.isEmpty()) {
                properties.put("partition.assignment.strategy", assignor);
            }
        } else {
            properties.put("group.protocol", groupProtocol);
        }
        properties.put("check.crcs", "true");
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private void read(String topic, String wanted) {
        Map<Integer, Long> ends = new HashMap<>();
        for (String pair : wanted.split(",")) {
            String[] sides = pair.split(":");
            ends.put(Integer.parseInt(sides[0]), Long.parseLong(sides[1]));
        }
        ends.values().removeIf(end -> end == 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            List<TopicPartition> places = ends.keySet().stream().map(p -> new TopicPartition(topic, p)).toList();
            consumer.assign(places);
            consumer.seekToBeginning(places);
            while (!ends.isEmpty()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    say("-", record);
                    ends.remove(record.partition(), record.offset() + 1);
                }
            }
        }
    }

    /** A member of a group: polls, commits what it has seen, leaves when told to. */
    private final class Member implements ConsumerRebalanceListener {
        private final String name;
        private final String topic;
        private final String group;
        private final Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
        private volatile boolean leaving;
        private Thread thread;

        Member(String name, String topic, String group) {
            this.name = name;
            this.topic = topic;
            this.group = group;
        }

        void run() {
            try (KafkaConsumer<byte[], byte[]> consumer = consumer("group.id", group)) {
                consumer.subscribe(List.of(topic), this);
                int uncommitted = 0;
                while (!leaving) {
                    ConsumerRecords<byte[], byte[]> records = consumer.poll(POLL);
                    for (ConsumerRecord<byte[], byte[]> record : records) {
                        say(name, record);
                        next.put(new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                    }
                    uncommitted += records.count();
                    if (uncommitted >= COMMIT_EVERY || uncommitted > 0 && records.isEmpty()) {
                        if (commit(consumer)) {
                            uncommitted = 0;
                        }
                    }
                }
                commit(consumer);
            }
        }

        /** Whether there is nothing left to commit. */
        private boolean commit(KafkaConsumer<byte[], byte[]> consumer) {
            if (next.isEmpty()) {
                return true;
            }
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>(next);
            try {
                consumer.commitSync(offsets);
                say("C " + name + " " + offsets.entrySet().stream()
                    .map(e -> e.getKey().partition() + ":" + e.getValue().offset()).collect(Collectors.joining(",")));
                return true;
            } catch (CommitFailedException | RebalanceInProgressException refused) {
                say("N member " + name + ": commit refused: " + refused.getMessage().replaceAll("\\s+", " "));
                return false;
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            changed("J", partitions);
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            changed("R", partitions);
        }

        private void changed(String event, Collection<TopicPartition> partitions) {
            partitions.forEach(next::remove);
            say(event + " " + name + " "
                + partitions.stream().map(p -> String.valueOf(p.partition())).collect(Collectors.joining(",")));
        }
    }
}
