// Drives kafkajs as protocol.md says.

const crypto = require('node:crypto')
const fs = require('node:fs')
const readline = require('node:readline')

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
const CODECS = [CompressionTypes.None, CompressionTypes.GZIP, CompressionTypes.Snappy, CompressionTypes.LZ4]

// kafkajs makes one batch of what it is given for a partition: below max.message.bytes, whatever the codec makes of it.
const SEND_BYTES = 900 * 1024
const SEND_RECORDS = 100

const [flag, bootstrap] = process.argv.slice(2)
if (flag !== '--bootstrap' || !bootstrap) {
  console.error('usage: driver.js --bootstrap HOST:PORT')
  process.exit(2)
}
const kafka = new Kafka({
  clientId: 'matrix',
  brokers: bootstrap.split(','),
  logLevel: logLevel.NOTHING,
  // Its second is over before the socket is looked at where a machine has much else to do.
  connectionTimeout: 60_000,
  requestTimeout: 60_000,
})
const say = line => process.stdout.write(`${line}\n`)

const hash = bytes => crypto.createHash('sha256').update(bytes).digest('hex').slice(0, 16)
const digest = part => (part === null ? '-' : `${part.length}:${hash(part)}`)

function counted(part) {
  const length = Buffer.alloc(4)
  length.writeInt32BE(part === null ? -1 : part.length)
  return part === null ? length : Buffer.concat([length, part])
}

// kafkajs hands headers over as an object: values of one name are together, in order.
function digestOfHeaders(headers) {
  const all = Object.entries(headers).flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map(one => [name, one]))
  const encoded = all.flatMap(([name, value]) => [counted(Buffer.from(name)), counted(value ?? null)])
  return `${all.length}:${hash(Buffer.concat(encoded))}`
}

function saw(reader, partition, { offset, timestamp, key, value, headers }) {
  say(`M ${reader} ${partition} ${offset} ${timestamp} ${digest(key)} ${digest(value)} ${digestOfHeaders(headers ?? {})}`)
}

async function create(topic, partitions, configs) {
  const admin = kafka.admin()
  await admin.connect()
  const configEntries = configs.split(',').map(config => config.split('=')).map(([name, value]) => ({ name, value }))
  await admin.createTopics({ topics: [{ topic, numPartitions: Number(partitions), replicationFactor: 1, configEntries }] })
  await admin.disconnect()
}

function* records(path) {
  const bytes = fs.readFileSync(path)
  let at = 0
  const int = () => bytes.readInt32BE((at += 4) - 4)
  const part = () => {
    const length = int()
    return length < 0 ? null : bytes.subarray(at, (at += length))
  }
  while (at < bytes.length) {
    const index = int()
    const codec = bytes.readUInt8(at++)
    const partition = int()
    const timestamp = String(bytes.readBigInt64BE(at))
    at += 8
    const [key, value] = [part(), part()]
    const headers = {}
    for (let left = int(); left > 0; left--) {
      const [name, one] = [part().toString(), part()]
      headers[name] = name in headers ? [headers[name], one].flat() : one
    }
    yield { index, codec, partition, message: { key, value, headers, timestamp } }
  }
}

class Producer {
  constructor(codec) {
    this.codec = codec
    this.waiting = []
    this.bytes = 0
    // Where kafkajs sends a message isn't said in its answer, only the first offset of each partition's.
    this.chosen = new Map()
    const createPartitioner = () => {
      const otherwise = Partitioners.DefaultPartitioner()
      return given => {
        const told = this.partitionOf.get(given.message)
        const partition = told >= 0 ? told : otherwise(given)
        this.chosen.set(given.message, partition)
        return partition
      }
    }
    this.inner = kafka.producer({ idempotent: true, createPartitioner, allowAutoTopicCreation: false })
  }

  async send(topic, record) {
    this.waiting.push(record)
    this.bytes += record.message.value?.length ?? 0
    if (this.bytes >= SEND_BYTES || this.waiting.length >= SEND_RECORDS) {
      await this.flush(topic)
    }
  }

  async flush(topic) {
    if (this.waiting.length === 0) {
      return
    }
    const sent = this.waiting
    this.waiting = []
    this.bytes = 0
    this.partitionOf = new Map(sent.map(({ message, partition }) => [message, partition]))
    this.chosen = new Map()
    const messages = sent.map(({ message }) => message)
    const answers = await this.inner.send({ topic, messages, acks: -1, compression: CODECS[this.codec], timeout: 60_000 })
    const next = new Map(answers.map(({ partition, baseOffset }) => [partition, BigInt(baseOffset)]))
    for (const { index, message } of sent) {
      const partition = this.chosen.get(message)
      const offset = next.get(partition)
      next.set(partition, offset + 1n)
      say(`A ${index} ${partition} ${offset}`)
    }
  }
}

async function produce(topic, path) {
  const producers = new Map()
  for (const record of records(path)) {
    if (!producers.has(record.codec)) {
      producers.set(record.codec, new Producer(record.codec))
      await producers.get(record.codec).inner.connect()
    }
    await producers.get(record.codec).send(topic, record)
  }
  for (const producer of producers.values()) {
    await producer.flush(topic)
    await producer.inner.disconnect()
  }
}

// kafkajs reads in groups only. A group of its own that starts at the beginning and commits nothing gets every partition.
async function read(topic, wanted) {
  const ends = new Map(wanted.split(',').map(pair => pair.split(':')).filter(([, end]) => end !== '0').map(([p, end]) => [Number(p), BigInt(end)]))
  const consumer = kafka.consumer({ groupId: `all-of-${topic}-${process.pid}`, allowAutoTopicCreation: false })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
    const eachMessage = async ({ partition, message }) => {
      const end = ends.get(partition)
      if (end !== undefined) {
        saw('-', partition, message)
        if (BigInt(message.offset) + 1n === end) {
          ends.delete(partition)
        }
      }
      if (ends.size === 0) {
        resolve()
      }
    }
    consumer.run({ autoCommit: false, eachMessage }).catch(reject)
  })
  await consumer.disconnect()
}

const members = new Map()

async function join(name, topic, groupId) {
  const consumer = kafka.consumer({
    groupId,
    sessionTimeout: 10_000,
    heartbeatInterval: 1_000,
    maxWaitTimeInMs: 200,
    allowAutoTopicCreation: false,
  })
  let mine = []
  members.set(name, consumer)
  const lost = () => {
    say(`R ${name} ${mine.join(',')}`)
    mine = []
  }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    lost()
    mine = payload.memberAssignment[topic] ?? []
    say(`J ${name} ${mine.join(',')}`)
  })
  // And not behind commitOffsets(): of a consumer that leaves it does nothing, and says nothing of that.
  consumer.on(consumer.events.COMMIT_OFFSETS, ({ payload }) => {
    const committed = payload.topics.flatMap(({ partitions }) => partitions)
    say(`C ${name} ${committed.map(({ partition, offset }) => `${partition}:${offset}`).join(',')}`)
  })
  // kafkajs' way of trying again, for instance a join whose connection broke: it says that it will, and starts anew.
  consumer.on(consumer.events.CRASH, ({ payload }) =>
    say(`${payload.restart ? 'N' : 'E'} member ${name}: ${payload.error.stack.replace(/\s+/g, ' ')}`),
  )
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
      let next = null
      for (const message of batch.messages) {
        if (!isRunning() || isStale()) {
          break
        }
        saw(name, batch.partition, message)
        resolveOffset(message.offset)
        next = String(BigInt(message.offset) + 1n)
      }
      await heartbeat()
      if (next === null) {
        return
      }
      try {
        await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }])
      } catch (error) {
        say(`N member ${name}: commit refused: ${error.message}`)
        throw error
      }
    },
  })
}

async function leave(name) {
  await members.get(name).disconnect()
}

// The producers by their names, each with the transaction that it has begun, if any.
const transactional = new Map()

async function open(name, transactionalId, timeout) {
  const producer = kafka.producer({ transactionalId, transactionTimeout: Number(timeout), maxInFlightRequests: 1, idempotent: true })
  await producer.connect()
  // Its id comes with its first transaction only.
  transactional.set(name, { producer, transaction: await producer.transaction() })
}

// What is begun already, or a new one.
async function transactionOf(name) {
  const its = transactional.get(name)
  its.transaction ??= await its.producer.transaction()
  return its.transaction
}

async function write(name, topic, partition, value) {
  const transaction = await transactionOf(name)
  await transaction.send({ topic, messages: [{ value, partition: Number(partition) }] })
}

async function end(name, how) {
  const transaction = await transactionOf(name)
  transactional.get(name).transaction = null
  await (how === 'commit' ? transaction.commit() : transaction.abort())
}

async function chain(name, source, sink, groupId, partitions, last) {
  const left = new Set(Array(Number(partitions)).keys())
  const consumer = kafka.consumer({ groupId, sessionTimeout: 10_000, heartbeatInterval: 1_000, maxWaitTimeInMs: 200, readUncommitted: false })
  await consumer.connect()
  await consumer.subscribe({ topics: [source], fromBeginning: true })
  let first = true
  const pass = async ({ batch, resolveOffset }) => {
    if (left.size === 0) {
      return
    }
    const transaction = await transactionOf(name)
    const { partition, messages } = batch
    await transaction.send({ topic: sink, messages: messages.map(({ value }) => ({ value: `${value}+`, partition })) })
    const offset = String(BigInt(batch.lastOffset()) + 1n)
    // It knows no member, only the group.
    await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic: source, partitions: [{ partition, offset }] }] })
    transactional.get(name).transaction = null
    if (first) {
      first = false
      await transaction.abort()
      // To where the first batch began: to what the group has committed.
      consumer.seek({ topic: source, partition, offset: messages[0].offset })
      return
    }
    await transaction.commit()
    resolveOffset(batch.lastOffset())
    if (messages.some(({ value }) => String(value) === last)) {
      left.delete(partition)
    }
  }
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || reject(payload.error))
    const eachBatch = async given => {
      try {
        await pass(given)
      } catch (error) {
        // Else it would try again what has become of the transaction by itself.
        reject(error)
        throw error
      }
      if (left.size === 0) {
        resolve()
      }
    }
    consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch }).catch(reject)
  }).finally(() => consumer.disconnect())
}

async function scan(topic, partitions, last, isolation) {
  const left = new Set(Array(Number(partitions)).keys())
  const groupId = `scan-of-${topic}-${process.pid}-${isolation}`
  const readUncommitted = isolation === 'read_uncommitted'
  const consumer = kafka.consumer({ groupId, readUncommitted, maxWaitTimeInMs: 200, allowAutoTopicCreation: false })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || reject(payload.error))
    const eachMessage = async ({ partition, message }) => {
      say(`V ${partition} ${message.value}`)
      if (String(message.value) === last) {
        left.delete(partition)
      }
      if (left.size === 0) {
        resolve()
      }
    }
    consumer.run({ autoCommit: false, eachMessage }).catch(reject)
  })
  await consumer.disconnect()
}

const COMMANDS = { create, produce, read, join, leave, scan }
// Of these is said what became of them; whether that is right is judged elsewhere.
const STEPS = { open, write, end, chain }

say(`ready ${require('kafkajs/package.json').version}`)
const lines = readline.createInterface({ input: process.stdin })
lines.on('line', line => {
  const [command, ...words] = line.trim().split(/ +/)
  if (command in STEPS) {
    STEPS[command](...words).then(
      () => say(`T ${words[0]} ${command} ok`),
      error => say(`T ${words[0]} ${command} failed ${String(error.message).replace(/\s+/g, ' ')}`),
    )
    return
  }
  const done = command === 'leave' ? `leave ${words[0]}` : command
  COMMANDS[command](...words).then(
    () => command === 'join' || say(`ok ${done}`),
    error => say(`E ${command}: ${String(error.stack).replace(/\s+/g, ' ')}`),
  )
})
lines.on('close', () => process.exit(0))
