import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.config.TopicConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyWindowStore;
import org.apache.kafka.streams.state.WindowStore;

/**
 * A Kafka Streams application that counts equal values by windows of time: through a repartition topic, into a state store with
 * a changelog, each count to the sink, all of it exactly once. Runs until it is killed, and says what its store has for each line
 * of its input. Arguments are pairs of a name and a value.
 */
public final class WindowedCount {
    private static final Duration WINDOW = Duration.ofSeconds(10);
    /** Nothing is ever too late to be counted. */
    private static final Duration GRACE = Duration.ofDays(1);

    private WindowedCount() {
    }

    public static void main(String[] arguments) throws IOException, InterruptedException {
        Map<String, String> given = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            given.put(arguments[i], arguments[i + 1]);
        }
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(given.get("--source"), Consumed.with(Serdes.ByteArray(), Serdes.String()))
            .groupBy((key, value) -> value, Grouped.with("values", Serdes.String(), Serdes.String()))
            .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, GRACE))
            .count(Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("counts")
                .withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()).withCachingDisabled())
            .toStream((windowed, count) -> windowed.key() + "@" + windowed.window().start())
            .mapValues(String::valueOf)
            .to(given.get("--sink"), Produced.with(Serdes.String(), Serdes.String()));
        Properties properties = new Properties();
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, given.get("--bootstrap"));
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, given.get("--application"));
        properties.put(StreamsConfig.STATE_DIR_CONFIG, given.get("--state"));
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "100");
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, "2");
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), "6000");
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), "1000");
        if (given.get("--compact").equals("true")) {
            // Whatever there is to compact is compacted at once; Kafka leaves alone what it writes to now, so: soon something else.
            properties.put(StreamsConfig.topicPrefix(TopicConfig.MIN_CLEANABLE_DIRTY_RATIO_CONFIG), "0.01");
            properties.put(StreamsConfig.topicPrefix(TopicConfig.SEGMENT_MS_CONFIG), "500");
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), properties);
        streams.setUncaughtExceptionHandler(failure -> {
            failure.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        streams.start();
        System.out.println("started");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        while (in.readLine() != null) {
            tell(streams);
        }
        Thread.currentThread().join();
    }

    /** Says every count of the store, once it is restored. */
    private static void tell(KafkaStreams streams) throws InterruptedException {
        while (streams.state() != KafkaStreams.State.RUNNING) {
            Thread.sleep(50);
        }
        StringBuilder said = new StringBuilder();
        ReadOnlyWindowStore<String, Long> store =
            streams.store(StoreQueryParameters.fromNameAndType("counts", QueryableStoreTypes.windowStore()));
        try (KeyValueIterator<Windowed<String>, Long> all = store.all()) {
            while (all.hasNext()) {
                KeyValue<Windowed<String>, Long> one = all.next();
                said.append("count ").append(one.key.key()).append('@').append(one.key.window().start()).append(' ')
                    .append(one.value).append('\n');
            }
        }
        System.out.println(said + "end");
    }
}
