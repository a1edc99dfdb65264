// Drives IBM/sarama as protocol.md says.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"tailwater/tests/clients/wire"
)

const idle = 200 * time.Millisecond

type client struct{ bootstrap []string }

func main() {
	wire.Serve(func(bootstrap []string, _ string) (wire.Client, error) { return &client{bootstrap}, nil })
}

func (c *client) Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/IBM/sarama" {
				return strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return "unknown"
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Return.Errors = true
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = time.Second
	// By default it gives up within a second, which a partition may take to open elsewhere.
	config.Producer.Retry.Max = 300
	config.Metadata.Retry.Max = 60
	config.Consumer.Group.Rebalance.Retry.Max = 30
	config.Admin.Timeout = time.Minute
	return config
}

func (c *client) Create(topic string, partitions int32, configs map[string]*string) error {
	admin, err := sarama.NewClusterAdmin(c.bootstrap, config())
	if err != nil {
		return err
	}
	defer admin.Close()
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: configs}
	return admin.CreateTopic(topic, detail, false)
}

var codecs = map[string]sarama.CompressionCodec{
	"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
	"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
}

// whereTold sends a record to the partition that it names, and elsewhere only if it names none.
type whereTold struct{ otherwise sarama.Partitioner }

func (w whereTold) RequiresConsistency() bool { return true }
func (w whereTold) Partition(message *sarama.ProducerMessage, count int32) (int32, error) {
	if told := message.Metadata.(*wire.Record).Partition; told >= 0 {
		return told, nil
	}
	return w.otherwise.Partition(message, count)
}

type producer struct {
	inner sarama.AsyncProducer
	// Messages that have no outcome yet. One that is tried again while the producer closes would fail.
	pending sync.WaitGroup
	ended   sync.WaitGroup
}

func (c *client) producer(codec string, acked func(int32, int32, int64), failed func(error)) (*producer, error) {
	config := config()
	config.Producer.Compression = codecs[codec]
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Net.MaxOpenRequests = 1
	config.Producer.MaxMessageBytes = wire.MaxMessageBytes - 1024
	config.Producer.Flush.Frequency = 5 * time.Millisecond
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = func(topic string) sarama.Partitioner { return whereTold{sarama.NewHashPartitioner(topic)} }
	inner, err := sarama.NewAsyncProducer(c.bootstrap, config)
	if err != nil {
		return nil, err
	}
	made := &producer{inner: inner}
	made.ended.Add(2)
	go func() {
		defer made.ended.Done()
		for message := range inner.Successes() {
			acked(message.Metadata.(*wire.Record).Index, message.Partition, message.Offset)
			made.pending.Done()
		}
	}()
	go func() {
		defer made.ended.Done()
		for message := range inner.Errors() {
			failed(message)
			made.pending.Done()
		}
	}()
	return made, nil
}

func encoder(part []byte) sarama.Encoder {
	if part == nil {
		return nil
	}
	return sarama.ByteEncoder(part)
}

func (c *client) Produce(topic string, next func() (*wire.Record, error), acked func(int32, int32, int64)) error {
	producers := map[string]*producer{}
	var lock sync.Mutex
	var failure error
	failed := func(err error) {
		lock.Lock()
		defer lock.Unlock()
		failure = err
	}
	for {
		record, err := next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		to := producers[record.Codec]
		if to == nil {
			if to, err = c.producer(record.Codec, acked, failed); err != nil {
				return err
			}
			producers[record.Codec] = to
		}
		message := &sarama.ProducerMessage{Topic: topic, Key: encoder(record.Key), Value: encoder(record.Value),
			Timestamp: time.UnixMilli(record.TimestampMs), Metadata: record}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value})
		}
		to.pending.Add(1)
		to.inner.Input() <- message
	}
	for _, producer := range producers {
		producer.pending.Wait()
		producer.inner.AsyncClose()
		producer.ended.Wait()
	}
	lock.Lock()
	defer lock.Unlock()
	return failure
}

func seen(message *sarama.ConsumerMessage) wire.Seen {
	found := wire.Seen{Partition: message.Partition, Offset: message.Offset, TimestampMs: message.Timestamp.UnixMilli(),
		Key: message.Key, Value: message.Value}
	for _, header := range message.Headers {
		found.Headers = append(found.Headers, wire.Header{Name: string(header.Key), Value: header.Value})
	}
	return found
}

func (c *client) Read(topic string, ends map[int32]int64, take func(wire.Seen)) error {
	consumer, err := sarama.NewConsumer(c.bootstrap, config())
	if err != nil {
		return err
	}
	defer consumer.Close()
	results := make(chan error)
	for partition, end := range ends {
		from, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		if err != nil {
			return err
		}
		go func() {
			defer from.AsyncClose()
			for {
				select {
				case err := <-from.Errors():
					results <- err
					return
				case message := <-from.Messages():
					take(seen(message))
					if message.Offset+1 == end {
						results <- nil
						return
					}
				}
			}
		}()
	}
	var failed error
	for range ends {
		failed = errors.Join(failed, <-results)
	}
	return failed
}

type transactions struct {
	client *client
	inner  sarama.AsyncProducer
	begun  bool
}

func (c *client) Open(id string, timeoutMs int) (wire.Transactions, error) {
	config := config()
	config.Producer.Transaction.ID = id
	config.Producer.Transaction.Timeout = time.Duration(timeoutMs) * time.Millisecond
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Net.MaxOpenRequests = 1
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	inner, err := sarama.NewAsyncProducer(c.bootstrap, config)
	return &transactions{client: c, inner: inner}, err
}

func (t *transactions) Write(topic string, partition int32, value []byte) error {
	if !t.begun {
		if err := t.inner.BeginTxn(); err != nil {
			return err
		}
		t.begun = true
	}
	t.inner.Input() <- &sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.ByteEncoder(value)}
	select {
	case <-t.inner.Successes():
		return nil
	case err := <-t.inner.Errors():
		return err
	}
}

func (t *transactions) End(commit bool) error {
	t.begun = false
	if commit {
		return t.inner.CommitTxn()
	}
	return t.inner.AbortTxn()
}

// Chain passes on each record in a transaction of its own: its partitions are read by goroutines of their own.
func (t *transactions) Chain(source, sink, group string, take func(int32, []byte) bool) error {
	config := config()
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	consumer, err := sarama.NewConsumerGroup(t.client.bootstrap, group, config)
	if err != nil {
		return err
	}
	defer consumer.Close()
	chain := &chain{transactions: t, sink: sink, group: group, take: take, first: true}
	for !chain.enough && chain.failure == nil {
		if err := consumer.Consume(context.Background(), []string{source}, chain); err != nil {
			return err
		}
	}
	return chain.failure
}

// chain is the state of one Chain over its sessions.
type chain struct {
	*transactions
	sink, group string
	take        func(int32, []byte) bool
	mutex       sync.Mutex
	first       bool
	// The session whose transaction was aborted: what it has fetched is behind what the group has committed.
	over    context.Context
	enough  bool
	failure error
}

func (h *chain) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h *chain) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim ends the session after the aborted transaction, since the next one begins at what the group has committed.
func (h *chain) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open || !h.pass(session, message) {
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

// pass answers whether the session goes on.
func (h *chain) pass(session sarama.ConsumerGroupSession, message *sarama.ConsumerMessage) bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if session.Context() == h.over || h.enough || h.failure != nil {
		return false
	}
	h.failure = h.Write(h.sink, message.Partition, append(bytes.Clone(message.Value), '+'))
	if h.failure == nil {
		member := sarama.NewConsumerGroupMetadataFromSession(session, h.group, nil)
		h.failure = h.inner.AddMessageToTxnWithGroupMetadata(message, member, nil)
	}
	if h.failure == nil {
		h.failure = h.End(!h.first)
	}
	if h.first {
		h.first, h.over = false, session.Context()
		return false
	}
	if h.failure == nil {
		h.enough = h.take(message.Partition, message.Value)
	}
	return h.failure == nil && !h.enough
}

func (c *client) Scan(topic string, partitions int32, committed bool, take func(int32, []byte) bool) error {
	config := config()
	if committed {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	consumer, err := sarama.NewConsumer(c.bootstrap, config)
	if err != nil {
		return err
	}
	defer consumer.Close()
	messages, failures := make(chan *sarama.ConsumerMessage), make(chan error)
	until, cancel := context.WithCancel(context.Background())
	defer cancel()
	for partition := range partitions {
		from, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		if err != nil {
			return err
		}
		go func() {
			defer from.AsyncClose()
			for {
				select {
				case message := <-from.Messages():
					select {
					case messages <- message:
					case <-until.Done():
						return
					}
				case err := <-from.Errors():
					select {
					case failures <- err:
					case <-until.Done():
					}
					return
				case <-until.Done():
					return
				}
			}
		}()
	}
	for {
		select {
		case message := <-messages:
			if take(message.Partition, message.Value) {
				return nil
			}
		case err := <-failures:
			return err
		}
	}
}

// handler runs the sessions of one member.
type handler struct {
	member *wire.Member
	topic  string
	group  string
	admin  sarama.ClusterAdmin
	commit sync.Mutex
}

func (h *handler) Setup(session sarama.ConsumerGroupSession) error {
	h.member.Assigned(session.Claims()[h.topic])
	return nil
}

func (h *handler) Cleanup(session sarama.ConsumerGroupSession) error {
	h.commitAll(session)
	h.member.Revoked(session.Claims()[h.topic])
	return nil
}

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			h.member.Took(seen(message))
			session.MarkMessage(message, "")
			if h.member.Uncommitted() >= wire.CommitEvery {
				h.commitAll(session)
			}
		case <-time.After(idle):
			if h.member.Uncommitted() > 0 {
				h.commitAll(session)
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

// commitAll commits what was marked, which was told before. Commit doesn't say how it went, so the group is asked.
func (h *handler) commitAll(session sarama.ConsumerGroupSession) {
	h.commit.Lock()
	defer h.commit.Unlock()
	taken, next := h.member.Uncommitted(), h.member.Next()
	session.Commit()
	mine := map[string][]int32{h.topic: session.Claims()[h.topic]}
	if len(mine[h.topic]) == 0 {
		h.member.Settled(taken)
		return
	}
	response, err := h.admin.ListConsumerGroupOffsets(h.group, mine)
	if err != nil {
		h.member.Note(err)
		return
	}
	committed := map[int32]int64{}
	for _, partition := range mine[h.topic] {
		if block := response.GetBlock(h.topic, partition); block != nil && block.Err == sarama.ErrNoError && block.Offset >= 0 {
			committed[partition] = block.Offset
		}
	}
	h.member.Committed(committed)
	for partition, offset := range next {
		if committed[partition] < offset {
			return
		}
	}
	h.member.Settled(taken)
}

func (c *client) Join(member *wire.Member, topic, group string, leave <-chan struct{}) error {
	admin, err := sarama.NewClusterAdmin(c.bootstrap, config())
	if err != nil {
		return err
	}
	defer admin.Close()
	consumer, err := sarama.NewConsumerGroup(c.bootstrap, group, config())
	if err != nil {
		return err
	}
	go func() {
		for err := range consumer.Errors() {
			member.Note(err)
		}
	}()
	until, cancel := context.WithCancel(context.Background())
	go func() {
		<-leave
		cancel()
	}()
	handler := &handler{member: member, topic: topic, group: group, admin: admin}
	for until.Err() == nil {
		if err := consumer.Consume(until, []string{topic}, handler); err != nil && until.Err() == nil {
			return fmt.Errorf("consuming: %w", err)
		}
	}
	return consumer.Close()
}
