import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Apache Kafka's command-line classes one after the other in one process, which saves a start of Java for each.
 * Of every line on stdin (a class and its arguments, separated by tabs) it prints a line of JSON: exit code, stdout, stderr.
 */
public final class Tools {
    private static final ByteArrayOutputStream STDOUT = new ByteArrayOutputStream();
    private static final ByteArrayOutputStream STDERR = new ByteArrayOutputStream();

    private Tools() {
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        // Set once: what a class has kept of them stays right.
        System.setOut(capture(STDOUT));
        System.setErr(capture(STDERR));
        ObjectMapper json = new ObjectMapper();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            STDOUT.reset();
            STDERR.reset();
            String[] words = line.split("\t");
            int code = run(words[0], Arrays.copyOfRange(words, 1, words.length));
            System.out.flush();
            System.err.flush();
            answers.println(json.writeValueAsString(Map.of(
                "exit", code,
                "out", STDOUT.toString(StandardCharsets.UTF_8),
                "err", STDERR.toString(StandardCharsets.UTF_8))));
        }
        Runtime.getRuntime().halt(0);
    }

    private static PrintStream capture(OutputStream into) {
        return new PrintStream(into, true, StandardCharsets.UTF_8);
    }

    private static int run(String name, String[] arguments) throws Exception {
        CompletableFuture<Integer> end = new CompletableFuture<>();
        Exit.Procedure exit = (status, message) -> {
            // In its place the process would end: nothing of the tool may go on, and nothing may catch it.
            end.complete(status);
            while (true) {
                LockSupport.park();
            }
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Method main = Class.forName(name).getMethod("main", String[].class);
        Thread tool = new Thread(() -> {
            try {
                main.invoke(null, (Object) arguments);
                end.complete(0);
            } catch (InvocationTargetException failure) {
                failure.getCause().printStackTrace();
                end.complete(1);
            } catch (ReflectiveOperationException failure) {
                end.completeExceptionally(failure);
            }
        }, "main");
        tool.setDaemon(true);
        tool.start();
        return end.get();
    }
}
