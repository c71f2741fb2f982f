/**
 * A hub's system in JavaScript: keeps the cases of one hub, and accepts each new case.
 *
 *     npm ci                                   in this folder, once
 *     node hub.mjs KAFKA HUB                   such as: node hub.mjs 127.0.0.1:9092 charnwood
 *     node hub.mjs KAFKA HUB --cases           prints the cases, one JSON object per line, and ends
 *
 * Written from docs/connect/hub.md and schemas/contracts. It keeps its state in memory, and reads the topic from its start each time.
 * A real system stores what `receive` returns, and its offsets, in one transaction of its database.
 */
import { createHash } from 'node:crypto'
import { Kafka, Partitioners, logLevel } from 'kafkajs'

const REFUSED = 'uk.lightbulb.case.command-refused.v1'
const SNAPSHOT = 'uk.lightbulb.case.snapshot.v1'
const ACCEPT = 'uk.lightbulb.case.accept.v1'
const ENDED = new Set(['completed', 'rejected', 'cancelled'])

/** Take one event, {type, headers, data}, into the cases by id. Return the events applied, in order: none for a repeat or one that waits. */
function receive(cases, event) {
  const { case_id, person_key, hub_version } = event.data
  if (!case_id || !Number.isInteger(hub_version)) return []
  if (!cases.has(case_id)) cases.set(case_id, newCase(case_id, person_key))
  const state = cases.get(case_id)
  if (hub_version <= state.version) return []
  state.waiting.set(hub_version, event)
  if (makesEarlierUnnecessary(event)) state.version = hub_version - 1
  return applyWaiting(state)
}

/** What is known of a case. */
const newCase = (case_id, person_key) => ({
  case_id,
  person_key,
  version: 0, // hub_version of the last event applied
  role: null,
  position: {}, // its status, holder and so on
  referrals: new Map(), // the open ones in full, by reference
  parts: 0, // snapshots that have not come yet
  named: new Set(), // the referrals that the last event and its snapshots name
  namesAll: false, // whether those are all that are open
  waiting: new Map(), // events after a gap, by hub_version
  headers: {}, // of the last event
})

/** Such an event, with its snapshots, states everything; what is missing before it no longer matters. */
const makesEarlierUnnecessary = ({ type, data }) =>
  type !== SNAPSHOT && data.case && (data.others_count === 0 || data.role === 'former')

function applyWaiting(state) {
  for (const version of state.waiting.keys()) if (version <= state.version) state.waiting.delete(version)
  const applied = []
  for (let event; (event = state.waiting.get(state.version + 1)); applied.push(event)) {
    state.waiting.delete(++state.version)
    apply(state, event)
  }
  return applied
}

function apply(state, { type, headers, data }) {
  state.headers = headers
  if (type === SNAPSHOT) state.parts = data.parts - data.part
  else if (data.case) startFrom(state, data)
  else return // a type of a later version that has no position: only its number counts
  for (const one of data.referrals ?? []) {
    state.named.add(one.reference)
    if (ENDED.has(one.status)) state.referrals.delete(one.reference)
    else state.referrals.set(one.reference, one)
  }
  if (state.parts === 0 && state.namesAll) forgetUnnamed(state)
}

function startFrom(state, data) {
  const others = data.others ?? []
  state.position = data.case
  state.role = data.role
  state.parts = data.snapshots ?? 0
  state.named = new Set(others.map((one) => one.reference))
  state.namesAll = others.length === data.others_count
  if (data.role === 'former') state.referrals.clear()
  for (const { reference, status, open_needs = [] } of others) {
    const known = state.referrals.get(reference)
    if (known) state.referrals.set(reference, { ...known, status, open_needs })
  }
}

function forgetUnnamed(state) {
  for (const reference of state.referrals.keys()) if (!state.named.has(reference)) state.referrals.delete(reference)
}

/** Whether to accept: the hub holds the case, nobody has accepted it, all of it was received, and no referral waits to be read. */
const shouldAccept = (state) =>
  state.role === 'holder' &&
  state.position.status === 'requested' &&
  state.parts === 0 &&
  state.waiting.size === 0 &&
  ![...state.referrals.values()].some((one) => one.referral.to_be_read?.length)

/** The command to accept a case. Its id derives from the case and its version: a client that is started again repeats it, and adds none. */
function accept(hub, state) {
  const { ce_id, ce_correlationid, traceparent } = state.headers
  const id = createHash('sha256').update([hub, 'accept', state.case_id, state.version].join(' ')).digest('hex')
  const headers = {
    ce_specversion: '1.0',
    ce_id: id,
    ce_type: ACCEPT,
    ce_source: `/hub/${hub}/example-client-js`,
    ce_time: new Date().toISOString(),
    ce_partitionkey: state.person_key,
    ce_correlationid,
    ce_causationid: ce_id,
    'content-type': 'application/json',
    ...(traceparent && { traceparent }),
  }
  const data = { case_id: state.case_id, person_key: state.person_key, expected_version: state.version }
  return { key: state.person_key, headers, value: JSON.stringify(data) }
}

/** Follow the topic of a hub. */
class Client {
  cases = new Map() // by id
  done = new Set() // ids of commands that were sent or refused, and of the refusals
  atEnd = false // whether everything that was in the topic at the start has been read

  constructor(bootstrap, hub, { listen }) {
    this.hub = hub
    this.listen = listen
    const kafka = new Kafka({ clientId: `hub-${hub}-js`, brokers: bootstrap.split(','), logLevel: logLevel.ERROR })
    this.admin = kafka.admin()
    this.producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, allowAutoTopicCreation: false })
    // A group of its own, which stores no offsets: each start reads all partitions from the beginning.
    const groupId = `hub-${hub}-js-${process.pid}-${Date.now()}`
    this.consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 500, allowAutoTopicCreation: false })
    this.finished = new Promise((resolve, reject) => {
      this.finish = resolve
      this.consumer.on('consumer.crash', ({ payload }) => payload.restart || reject(payload.error))
    })
  }

  async run() {
    await Promise.all([this.admin.connect(), this.producer.connect(), this.consumer.connect()])
    const topic = `hub.${this.hub}.case`
    const offsets = await this.admin.fetchTopicOffsets(topic)
    this.toRead = new Map(offsets.filter((one) => +one.low < +one.high).map((one) => [one.partition, +one.high]))
    await this.consumer.subscribe({ topic, fromBeginning: true })
    await this.consumer.run({ autoCommit: false, eachMessage: (record) => this.take(record) })
    if (this.toRead.size === 0) await this.reachEnd()
    await this.finished
    await Promise.all([this.consumer.disconnect(), this.producer.disconnect(), this.admin.disconnect()])
  }

  async take({ partition, message }) {
    const headers = Object.fromEntries(Object.entries(message.headers).map(([name, value]) => [name, String(value)]))
    await this.receive({ type: headers.ce_type, headers, data: JSON.parse(message.value) })
    if (+message.offset + 1 >= this.toRead.get(partition)) {
      this.toRead.delete(partition)
      if (this.toRead.size === 0) await this.reachEnd()
    }
  }

  async receive(event) {
    if (event.type === REFUSED) return this.refused(event)
    for (const { type, data } of receive(this.cases, event)) this.print(`${type} ${data.case_id} version ${data.hub_version}`)
    const state = this.cases.get(event.data.case_id)
    if (state?.waiting.size) this.print(`${state.case_id} version ${state.version + 1} is missing: ask the operators to republish`)
    else if (state && this.atEnd) await this.decide(state)
  }

  refused({ type, headers, data }) {
    const { case_id, command_id, reason, explanation, places = [] } = data
    if (this.done.has(headers.ce_id)) return // a repeat
    this.done.add(headers.ce_id).add(command_id)
    this.print([type, case_id, reason, explanation, ...places].join(' '))
  }

  async reachEnd() {
    if (!this.listen) return this.finish()
    this.atEnd = true
    console.log('read to the end')
    for (const state of this.cases.values()) await this.decide(state)
  }

  async decide(state) {
    if (!shouldAccept(state)) return
    const message = accept(this.hub, state)
    if (this.done.has(message.headers.ce_id)) return
    await this.producer.send({ topic: `hub.${this.hub}.command`, messages: [message] })
    this.done.add(message.headers.ce_id)
  }

  print(line) {
    if (this.listen) console.log(line)
  }
}

const shown = ({ case_id, person_key, version, waiting, parts, role, position, referrals }) => {
  const whole = waiting.size === 0 && parts === 0
  return JSON.stringify({ case_id, person_key, version, whole, role, case: position, referrals: [...referrals.values()] })
}

const [bootstrap, hub, option] = process.argv.slice(2)
if (!hub || (option && option !== '--cases')) {
  console.error('usage: node hub.mjs KAFKA HUB [--cases]')
  process.exit(2)
}
const client = new Client(bootstrap, hub, { listen: !option })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => client.finish())
await client.run()
if (option) for (const state of client.cases.values()) console.log(shown(state))
