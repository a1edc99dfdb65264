import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A member of a group that lives while tools ask about it, until it is ended by its group's name. Arguments are pairs of a name
 * and a value; "--end" ends.
 */
public final class Living {
    private static final Map<String, Living> MEMBERS = new ConcurrentHashMap<>();

    private final CountDownLatch assigned = new CountDownLatch(1);
    private final CountDownLatch ended = new CountDownLatch(1);
    private volatile boolean ends;

    private Living() {
    }

    public static void main(String[] arguments) throws Exception {
        Properties given = new Properties();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            given.put(arguments[i], arguments[i + 1]);
        }
        String end = given.getProperty("--end");
        if (end != null) {
            Living member = MEMBERS.remove(end);
            member.ends = true;
            member.ended.await();
            System.out.println("it has left");
            return;
        }
        Living member = new Living();
        MEMBERS.put(given.getProperty("--group"), member);
        Thread thread = new Thread(() -> member.live(given), "member");
        thread.setDaemon(true);
        thread.start();
        member.assigned.await();
        System.out.println("it has its partitions");
    }

    private void live(Properties given) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", given.getProperty("--bootstrap-server"));
        properties.put("group.id", given.getProperty("--group"));
        properties.put("group.protocol", given.getProperty("--protocol"));
        properties.put("client.id", "tools-member");
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(given.getProperty("--topic")));
            int polled = 0;
            while (!ends) {
                polled += consumer.poll(Duration.ofMillis(100)).count();
                if (polled > 0 && assigned.getCount() > 0) {
                    consumer.commitSync();
                    assigned.countDown();
                }
            }
        }
        ended.countDown();
    }
}
