import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Leaves a transaction with one record open: what administrators' tools are for. Arguments are pairs of a name and a value. */
public final class Unfinished {
    private static final String TIMEOUT_MS = "900000";

    private Unfinished() {
    }

    public static void main(String[] arguments) throws Exception {
        Properties given = new Properties();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            given.put(arguments[i], arguments[i + 1]);
        }
        Properties properties = new Properties();
        properties.put("bootstrap.servers", given.getProperty("--bootstrap-server"));
        properties.put("transactional.id", given.getProperty("--transactional-id"));
        properties.put("transaction.timeout.ms", TIMEOUT_MS);
        // Never closed: that would end the transaction.
        KafkaProducer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(given.getProperty("--topic"), 0, null, "unfinished")).get();
        System.out.println("it is open");
    }
}
