// Drives franz-go as protocol.md says.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tailwater/tests/clients/wire"
)

const poll = 200 * time.Millisecond

var serverAssigns = []kgo.Opt{kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())}

type client struct {
	bootstrap []string
	// The coordinator assigns, and not a member.
	serverAssigns bool
}

func main() {
	wire.Serve(func(bootstrap []string, groupProtocol string) (wire.Client, error) {
		return &client{bootstrap, groupProtocol == "consumer"}, nil
	})
}

func (c *client) Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/twmb/franz-go" {
				return strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return "unknown"
}

func (c *client) connect(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.bootstrap...), kgo.MetadataMinAge(100 * time.Millisecond)}, more...)...)
}

func (c *client) Create(topic string, partitions int32, configs map[string]*string) error {
	connection, err := c.connect()
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = kadm.NewClient(connection).CreateTopic(context.Background(), partitions, 1, configs, topic)
	return err
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// whereTold sends a record to the partition that it names, and elsewhere only if it names none.
type whereTold struct{ otherwise kgo.TopicPartitioner }

func (w whereTold) ForTopic(string) kgo.TopicPartitioner { return w }
func (w whereTold) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || w.otherwise.RequiresConsistency(r)
}
func (w whereTold) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return w.otherwise.Partition(r, n)
}

func (c *client) Produce(topic string, next func() (*wire.Record, error), acked func(int32, int32, int64)) error {
	producers := map[string]*kgo.Client{}
	var lock sync.Mutex
	var failed error
	for {
		record, err := next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		producer := producers[record.Codec]
		if producer == nil {
			producer, err = c.connect(kgo.ProducerBatchCompression(codecs[record.Codec]),
				kgo.ProducerBatchMaxBytes(wire.MaxMessageBytes-1024), kgo.ProducerLinger(5*time.Millisecond),
				kgo.RecordPartitioner(whereTold{kgo.StickyKeyPartitioner(nil).ForTopic(topic)}))
			if err != nil {
				return err
			}
			defer producer.Close()
			producers[record.Codec] = producer
		}
		sent := &kgo.Record{Topic: topic, Partition: record.Partition, Key: record.Key, Value: record.Value,
			Timestamp: time.UnixMilli(record.TimestampMs)}
		for _, header := range record.Headers {
			sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
		}
		producer.Produce(context.Background(), sent, func(found *kgo.Record, err error) {
			if err != nil {
				lock.Lock()
				failed = err
				lock.Unlock()
				return
			}
			acked(record.Index, found.Partition, found.Offset)
		})
	}
	for _, producer := range producers {
		if err := producer.Flush(context.Background()); err != nil {
			return err
		}
	}
	lock.Lock()
	defer lock.Unlock()
	return failed
}

func seen(r *kgo.Record) wire.Seen {
	found := wire.Seen{Partition: r.Partition, Offset: r.Offset, TimestampMs: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
	for _, header := range r.Headers {
		found.Headers = append(found.Headers, wire.Header{Name: header.Key, Value: header.Value})
	}
	return found
}

func polled(consumer *kgo.Client) ([]*kgo.Record, error) {
	limited, cancel := context.WithTimeout(context.Background(), poll)
	defer cancel()
	fetches := consumer.PollRecords(limited, 500)
	var failed error
	fetches.EachError(func(topic string, partition int32, err error) {
		if err != context.DeadlineExceeded {
			failed = fmt.Errorf("%s/%d: %w", topic, partition, err)
		}
	})
	records := fetches.Records()
	for _, record := range records {
		if record.Attrs.TimestampType() != 0 {
			return nil, fmt.Errorf("%d/%d has timestamp type %d", record.Partition, record.Offset, record.Attrs.TimestampType())
		}
	}
	return records, failed
}

func (c *client) Read(topic string, ends map[int32]int64, take func(wire.Seen)) error {
	offsets := map[int32]kgo.Offset{}
	for partition := range ends {
		offsets[partition] = kgo.NewOffset().AtStart()
	}
	consumer, err := c.connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	if err != nil {
		return err
	}
	defer consumer.Close()
	for left := len(ends); left > 0; {
		records, err := polled(consumer)
		if err != nil {
			return err
		}
		for _, record := range records {
			take(seen(record))
			if record.Offset+1 == ends[record.Partition] {
				left--
			}
		}
	}
	return nil
}

type transactions struct {
	client   *client
	id       string
	timeout  time.Duration
	producer *kgo.Client
	begun    bool
}

func (c *client) Open(id string, timeoutMs int) (wire.Transactions, error) {
	timeout := time.Duration(timeoutMs) * time.Millisecond
	producer, err := c.connect(kgo.TransactionalID(id), kgo.TransactionTimeout(timeout), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return nil, err
	}
	// It asks for its id by itself, and at once if it is asked for it.
	_, _, err = producer.ProducerID(context.Background())
	return &transactions{client: c, id: id, timeout: timeout, producer: producer}, err
}

func (t *transactions) Write(topic string, partition int32, value []byte) error {
	if !t.begun {
		if err := t.producer.BeginTransaction(); err != nil {
			return err
		}
		t.begun = true
	}
	record := &kgo.Record{Topic: topic, Partition: partition, Value: value}
	return t.producer.ProduceSync(context.Background(), record).FirstErr()
}

func (t *transactions) End(commit bool) error {
	t.begun = false
	return t.producer.EndTransaction(context.Background(), kgo.TransactionEndTry(commit))
}

// Chain has a producer of its own under the same id: a session knows its group's member, too.
func (t *transactions) Chain(source, sink, group string, take func(int32, []byte) bool) error {
	options := []kgo.Opt{kgo.SeedBrokers(t.client.bootstrap...), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.TransactionalID(t.id), kgo.TransactionTimeout(t.timeout), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(source), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(time.Second)}
	if t.client.serverAssigns {
		options = append(options, serverAssigns...)
	}
	session, err := kgo.NewGroupTransactSession(options...)
	if err != nil {
		return err
	}
	defer session.Close()
	for first := true; ; {
		records, err := polled(session.Client())
		if err != nil {
			return err
		}
		if len(records) == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return err
		}
		passedOn := []*kgo.Record{}
		for _, record := range records {
			passedOn = append(passedOn, &kgo.Record{Topic: sink, Partition: record.Partition, Value: append(bytes.Clone(record.Value), '+')})
		}
		if err := session.ProduceSync(context.Background(), passedOn...).FirstErr(); err != nil {
			return err
		}
		committed, err := session.End(context.Background(), kgo.TransactionEndTry(!first))
		if err != nil {
			return err
		}
		first = false
		enough := false
		for _, record := range records {
			if committed {
				enough = take(record.Partition, record.Value)
			}
		}
		if enough {
			return nil
		}
	}
}

func (c *client) Scan(topic string, partitions int32, committed bool, take func(int32, []byte) bool) error {
	offsets := map[int32]kgo.Offset{}
	for partition := range partitions {
		offsets[partition] = kgo.NewOffset().AtStart()
	}
	isolation := kgo.ReadUncommitted()
	if committed {
		isolation = kgo.ReadCommitted()
	}
	consumer, err := c.connect(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}),
		kgo.FetchIsolationLevel(isolation))
	if err != nil {
		return err
	}
	defer consumer.Close()
	for {
		records, err := polled(consumer)
		if err != nil {
			return err
		}
		enough := false
		for _, record := range records {
			enough = take(record.Partition, record.Value)
		}
		if enough {
			return nil
		}
	}
}

func (c *client) Join(member *wire.Member, topic, group string, leave <-chan struct{}) error {
	told := func(tell func([]int32)) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { tell(partitions[topic]) }
	}
	options := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(time.Second),
		kgo.OnPartitionsAssigned(told(member.Assigned)), kgo.OnPartitionsRevoked(told(member.Revoked)),
		kgo.OnPartitionsLost(told(member.Revoked))}
	if c.serverAssigns {
		options = append(options, serverAssigns...)
	}
	consumer, err := c.connect(options...)
	if err != nil {
		return err
	}
	for {
		records, err := polled(consumer)
		for _, record := range records {
			member.Took(seen(record))
		}
		if err != nil {
			consumer.CloseAllowingRebalance()
			return err
		}
		leaving := false
		select {
		case <-leave:
			leaving = true
		default:
		}
		// Records above a former commit were polled and told, so that all that is committed is what was told.
		if member.Uncommitted() >= wire.CommitEvery || leaving || (member.Uncommitted() > 0 && len(records) == 0) {
			commit(consumer, member, topic)
		}
		consumer.AllowRebalance()
		if leaving {
			consumer.CloseAllowingRebalance()
			return nil
		}
	}
}

func commit(consumer *kgo.Client, member *wire.Member, topic string) {
	taken, next := member.Uncommitted(), member.Next()
	if len(next) == 0 {
		member.Settled(taken)
		return
	}
	offsets := map[int32]kgo.EpochOffset{}
	for partition, offset := range next {
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	// Told once it is acknowledged, and not at all if any partition was refused.
	consumer.CommitOffsetsSync(context.Background(), map[string]map[int32]kgo.EpochOffset{topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			if err == nil {
				for _, partition := range response.Topics[0].Partitions {
					if err == nil {
						err = kerr.ErrorForCode(partition.ErrorCode)
					}
				}
			}
			if err != nil {
				member.Note(err)
				return
			}
			member.Settled(taken)
			member.Committed(next)
		})
}
