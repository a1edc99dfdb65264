// Package wire is what the Go drivers share of protocol.md: lines in and out, files of records, digests.
// It knows no client library.
package wire

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// MaxMessageBytes is what the topics of the matrix take.
const MaxMessageBytes = 2 << 20

// CommitEvery is after how many records a member commits at the latest.
const CommitEvery = 300

// Codecs in the order of their numbers.
var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// Header of a record; a nil value is null.
type Header struct {
	Name  string
	Value []byte
}

// Record as the file has it; nil is null.
type Record struct {
	Index       int32
	Codec       string
	Partition   int32
	TimestampMs int64
	Key, Value  []byte
	Headers     []Header
}

// Client is what a library has to be able to do.
type Client interface {
	Version() string
	Create(topic string, partitions int32, configs map[string]*string) error
	// Produce sends what next gives until io.EOF and calls acked for every record.
	Produce(topic string, next func() (*Record, error), acked func(index, partition int32, offset int64)) error
	// Read hands over records by assignment, from the beginning up to the ends; then it returns.
	Read(topic string, ends map[int32]int64, take func(Seen)) error
	// Join runs a member until leave is closed; it returns when the member has left.
	Join(member *Member, topic, group string, leave <-chan struct{}) error
}

// Transactor is a Client that has transactions, too.
type Transactor interface {
	// Open makes a producer and has it initialised.
	Open(id string, timeoutMs int) (Transactions, error)
	// Scan hands over what is there, only what is committed or all, until take answers that it has seen enough.
	Scan(topic string, partitions int32, committed bool, take func(partition int32, value []byte) bool) error
}

// Transactions of one producer.
type Transactions interface {
	// Write sends a record and waits for it; it begins a transaction if need be.
	Write(topic string, partition int32, value []byte) error
	End(commit bool) error
	// Chain passes on what is committed in one topic to another, and the group's offsets with it, until take answers that
	// it has seen enough; its first transaction is aborted. It takes what is passed on for good.
	Chain(source, sink, group string, take func(partition int32, value []byte) bool) error
}

// Seen is a record that was read.
type Seen struct {
	Partition   int32
	Offset      int64
	TimestampMs int64
	Key, Value  []byte
	Headers     []Header
}

var (
	lock sync.Mutex
	out  = bufio.NewWriter(os.Stdout)
)

func say(format string, arguments ...any) {
	lock.Lock()
	defer lock.Unlock()
	fmt.Fprintf(out, format+"\n", arguments...)
	out.Flush()
}

func digest(part []byte) string {
	if part == nil {
		return "-"
	}
	sum := sha256.Sum256(part)
	return fmt.Sprintf("%d:%s", len(part), hex.EncodeToString(sum[:8]))
}

func digestOfHeaders(headers []Header) string {
	var encoded []byte
	add := func(part []byte, null bool) {
		if null {
			encoded = binary.BigEndian.AppendUint32(encoded, 0xffffffff)
			return
		}
		encoded = binary.BigEndian.AppendUint32(encoded, uint32(len(part)))
		encoded = append(encoded, part...)
	}
	for _, header := range headers {
		add([]byte(header.Name), false)
		add(header.Value, header.Value == nil)
	}
	sum := sha256.Sum256(encoded)
	return fmt.Sprintf("%d:%s", len(headers), hex.EncodeToString(sum[:8]))
}

func (seen Seen) say(reader string) {
	say("M %s %d %d %d %s %s %s", reader, seen.Partition, seen.Offset, seen.TimestampMs,
		digest(seen.Key), digest(seen.Value), digestOfHeaders(seen.Headers))
}

// Member says what happens to one member of a group, and keeps what it has to commit. Safe for several goroutines.
type Member struct {
	Name        string
	mutex       sync.Mutex
	next        map[int32]int64
	uncommitted int
}

func (m *Member) Assigned(partitions []int32) { m.changed("J", partitions) }
func (m *Member) Revoked(partitions []int32)  { m.changed("R", partitions) }

func (m *Member) changed(event string, partitions []int32) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	names := make([]string, 0, len(partitions))
	for _, partition := range partitions {
		delete(m.next, partition)
		names = append(names, strconv.Itoa(int(partition)))
	}
	say("%s %s %s", event, m.Name, strings.Join(names, ","))
}

func (m *Member) Took(seen Seen) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	seen.say(m.Name)
	m.next[seen.Partition] = seen.Offset + 1
	m.uncommitted++
}

// Uncommitted is how many records were taken since the last commit that was acknowledged.
func (m *Member) Uncommitted() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.uncommitted
}

// Next is what to commit.
func (m *Member) Next() map[int32]int64 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	next := make(map[int32]int64, len(m.next))
	for partition, offset := range m.next {
		next[partition] = offset
	}
	return next
}

// Settled says that so many of the taken records need no commit any more.
func (m *Member) Settled(count int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.uncommitted -= count
}

func (m *Member) Committed(offsets map[int32]int64) {
	pairs := make([]string, 0, len(offsets))
	for partition, offset := range offsets {
		pairs = append(pairs, fmt.Sprintf("%d:%d", partition, offset))
	}
	sort.Strings(pairs)
	if len(pairs) > 0 {
		say("C %s %s", m.Name, strings.Join(pairs, ","))
	}
}

func (m *Member) Note(err error) { say("N member %s: %s", m.Name, oneLine(err)) }

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func reader(path string) (next func() (*Record, error), done func(), err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(file, 1<<20)
	part := func() ([]byte, error) {
		var length int32
		if err := binary.Read(in, binary.BigEndian, &length); err != nil || length < 0 {
			return nil, err
		}
		bytes := make([]byte, length)
		_, err := io.ReadFull(in, bytes)
		return bytes, err
	}
	next = func() (*Record, error) {
		var fixed struct {
			Index       int32
			Codec       uint8
			Partition   int32
			TimestampMs int64
		}
		if err := binary.Read(in, binary.BigEndian, &fixed); err != nil {
			return nil, err
		}
		key, err1 := part()
		value, err2 := part()
		var count int32
		err3 := binary.Read(in, binary.BigEndian, &count)
		record := &Record{Index: fixed.Index, Codec: Codecs[fixed.Codec], Partition: fixed.Partition,
			TimestampMs: fixed.TimestampMs, Key: key, Value: value}
		err := errors.Join(err1, err2, err3)
		for ; count > 0 && err == nil; count-- {
			name, err1 := part()
			value, err2 := part()
			record.Headers = append(record.Headers, Header{string(name), value})
			err = errors.Join(err1, err2)
		}
		return record, err
	}
	return next, func() { file.Close() }, nil
}

type joined struct {
	leave, left chan struct{}
}

// Serve takes commands until its input ends.
func Serve(connect func(bootstrap []string, groupProtocol string) (Client, error)) {
	bootstrap := flag.String("bootstrap", "", "HOST:PORT,HOST:PORT")
	groupProtocol := flag.String("group-protocol", "classic", "classic or consumer, of clients that have both")
	flag.Parse()
	client, err := connect(strings.Split(*bootstrap, ","), *groupProtocol)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	say("ready %s", client.Version())
	members := map[string]*joined{}
	transactions := &opened{byName: map[string]Transactions{}}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "create":
			go guarded("create", func() error {
				partitions, err := strconv.Atoi(words[2])
				configs := map[string]*string{}
				for _, config := range strings.Split(words[3], ",") {
					name, value, _ := strings.Cut(config, "=")
					configs[name] = &value
				}
				return errors.Join(err, client.Create(words[1], int32(partitions), configs))
			})
		case "produce":
			go guarded("produce", func() error { return produce(client, words[1], words[2]) })
		case "read":
			go guarded("read", func() error { return read(client, words[1], words[2]) })
		case "join":
			member := &Member{Name: words[1], next: map[int32]int64{}}
			its := &joined{make(chan struct{}), make(chan struct{})}
			members[words[1]] = its
			go func() {
				defer close(its.left)
				if err := client.Join(member, words[2], words[3], its.leave); err != nil {
					say("E member %s: %s", member.Name, oneLine(err))
				}
			}()
		case "leave":
			its := members[words[1]]
			go guarded("leave "+words[1], func() error {
				close(its.leave)
				<-its.left
				return nil
			})
		case "open", "write", "end", "chain":
			go transactions.step(client, words)
		case "scan":
			go guarded("scan", func() error { return scan(client, words[1], words[2], words[3], words[4]) })
		default:
			say("E unknown command %s", words[0])
		}
	}
}

// opened are the transactional producers by the names that they were told.
type opened struct {
	mutex  sync.Mutex
	byName map[string]Transactions
}

// step does one thing with a producer and says what became of it; whether that is right is judged elsewhere.
func (o *opened) step(client Client, words []string) {
	if err := o.do(client, words); err != nil {
		say("T %s %s failed %s", words[1], words[0], oneLine(err))
		return
	}
	say("T %s %s ok", words[1], words[0])
}

func (o *opened) do(client Client, words []string) error {
	transactor, ok := client.(Transactor)
	if !ok {
		return errors.New("this client has no transactions")
	}
	if words[0] == "open" {
		timeout, err := strconv.Atoi(words[3])
		if err != nil {
			return err
		}
		made, err := transactor.Open(words[2], timeout)
		if err == nil {
			o.mutex.Lock()
			o.byName[words[1]] = made
			o.mutex.Unlock()
		}
		return err
	}
	o.mutex.Lock()
	its := o.byName[words[1]]
	o.mutex.Unlock()
	if words[0] == "end" {
		return its.End(words[2] == "commit")
	}
	if words[0] == "chain" {
		partitions, err := strconv.Atoi(words[5])
		done := map[int32]bool{}
		return errors.Join(err, its.Chain(words[2], words[3], words[4], func(partition int32, value []byte) bool {
			if string(value) == words[6] {
				done[partition] = true
			}
			return len(done) == partitions
		}))
	}
	partition, err := strconv.Atoi(words[3])
	return errors.Join(err, its.Write(words[2], int32(partition), []byte(words[4])))
}

func scan(client Client, topic, count, last, isolation string) error {
	transactor, ok := client.(Transactor)
	if !ok {
		return errors.New("this client has no transactions")
	}
	partitions, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	done := map[int32]bool{}
	return transactor.Scan(topic, int32(partitions), isolation == "read_committed", func(partition int32, value []byte) bool {
		say("V %d %s", partition, value)
		if string(value) == last {
			done[partition] = true
		}
		return len(done) == partitions
	})
}

func guarded(what string, do func() error) {
	if err := do(); err != nil {
		say("E %s: %s", what, oneLine(err))
		return
	}
	say("ok %s", what)
}

func produce(client Client, topic, path string) error {
	next, done, err := reader(path)
	if err != nil {
		return err
	}
	defer done()
	return client.Produce(topic, next, func(index, partition int32, offset int64) {
		say("A %d %d %d", index, partition, offset)
	})
}

func read(client Client, topic, wanted string) error {
	ends := map[int32]int64{}
	for _, pair := range strings.Split(wanted, ",") {
		var partition int32
		var end int64
		if _, err := fmt.Sscanf(pair, "%d:%d", &partition, &end); err != nil {
			return err
		}
		if end > 0 {
			ends[partition] = end
		}
	}
	return client.Read(topic, ends, func(seen Seen) { seen.say("-") })
}
