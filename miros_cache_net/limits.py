"""Every cap of the project, with the arithmetic that led to it."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing takes longer than a reader runs
if TYPE_CHECKING:
    from typing import Final

# --- documents ------------------------------------------------------------------------------------

#: A document's text in bytes.  A /16 of peers at ~15 bytes each is 1 MB; 8 MiB leaves room for any discovery
#: result and keeps one parse (~10 ns a byte) below 0.1 s and one frozen copy below ~100 MB.
DOCUMENT_BYTES: Final = 8 * 1024 * 1024
#: Levels of nesting.  People write < 10; CPython's parser fails near 1000, where a hostile 8 MiB of "[" must not get.
DOCUMENT_DEPTH: Final = 64
#: Visible top-level keys: each costs ~100 bytes of metadata, at most ~6.5 MB in all.
DOCUMENT_KEYS: Final = 65_536
#: Tombstones that an update may leave; an update that would leave more becomes a whole write, which needs none of them.
#: With a key of 20 bytes each costs ~60, together 0.25 MB.  A merge adds up the tombstones of hosts that deleted keys
#: independently; only `DOCUMENT_BYTES` bounds those: at 30 bytes or more each, 280,000 and ~80 MB in memory.
TOMBSTONES: Final = 4_096
#: A top-level key in UTF-8 bytes.
KEY_BYTES: Final = 1024
#: Digits of an integer: CPython's own default for parsing, which keeps the quadratic conversion cheap.
NUMBER_DIGITS: Final = 4300
#: The same in bits (x log2 10), rounded down, so that every number that is written can be read.
NUMBER_BITS: Final = 14_000
#: No number with this many digits exceeds the bits (14,000 / log2 10 = 4214.4); the bits of longer ones are counted.
NUMBER_DIGITS_WRITTEN: Final = 4214
#: A stamp's logical counter: 16 bits.  On overflow the physical part advances by one millisecond.
STAMP_COUNTER: Final = 0xFFFF
#: Physical part of a stamp: 48 bits of milliseconds reach the year 10889.
STAMP_WALL_MS: Final = 0xFFFF_FFFF_FFFF
#: The year 2200: later stamps and discoveries are refused, so that one wrong clock cannot exhaust the range of stamps.
LATEST_STAMP_MS: Final = 7_258_118_400_000
#: The year 2190: a host's own clock counts up to here.  The ten years up to 2200 hold 3e11 ms of 65,536 stamps each,
#: for writes that follow the latest own-clock stamp: 600 years at a million writes a second.
OWN_CLOCK_MS: Final = 6_942_585_600_000
#: Bytes of a node's name; it is part of every stamp.
NODE_NAME_BYTES: Final = 48
#: How far another clock may be ahead of this machine's before it is reported: NTP keeps clocks within milliseconds, and
#: a message may take seconds.  A discovery further ahead makes no document young.
CLOCK_AHEAD_MS: Final = 60_000

# --- the file -------------------------------------------------------------------------------------

#: Back-off of an event that found the file taken: upper bound of the random wait after its n-th failure; the last
#: bound repeats.  A holder is inside for milliseconds, so the first waits are short; 5 s bound the worst case.
BACKOFF_BOUNDS_S: Final = (0.1, 1.3, 2.5, 3.7, 5.0)
BACKOFF_LEAST_S: Final = 0.001
#: An un-writable file with a free lock and no mark belongs to a program that knows only the mode bit.
#: Such programs hold it for milliseconds; after this long the file counts as abandoned.
TAKE_OVER_AFTER_S: Final = 10.0
#: The lock file's record: a few short fields, written in place by one write() well below a page.
SIDECAR_BYTES: Final = 1024
#: Changes that waiting processes pass to the process inside: 2,000 of 2 kB each, parsed in ~0.1 s.
BATCH_BYTES: Final = 4 * 1024 * 1024
#: One such change: a larger one would make the others wait for its parsing, so it waits for its own turn.
BATCHED_CHANGE_BYTES: Final = 64 * 1024
#: The leader may be stopped (a debugger, a paused container) while others get in.  A replacement takes milliseconds, or
#: a second on a slow disk behind a long queue; a process that gives up too early costs the others only its turn.
BATCH_WAIT_S: Final = 2.0
#: A file under a truncating writer looks empty between the open() and the write(): how long to wait before such a file
#: counts as broken.
SETTLE_S: Final = 0.05
#: The same for a writer that keeps writing: readers wait in the meantime, so no longer than a person notices.
SETTLE_AT_MOST_S: Final = 1.0
#: Files set aside per document: the first, which a person may have written, and the newest.  A broken writer in a loop
#: must not fill the disk: 32 x 8 MiB = 256 MiB.
SET_ASIDE_FILES: Final = 32
#: How often the document's identity is polled if the kernel grants no more file watches.
SLOW_STAT_S: Final = 1.0

# --- charts ---------------------------------------------------------------------------------------

#: Events waiting in one chart: 20 MB at ~2 kB each.  A chart that is 10,000 events behind (half a second at 50 us an
#: event) refuses new ones, reports it and counts them.
CHART_QUEUE_EVENTS: Final = 10_000
#: Events that one chart has postponed with `defer`; each came through the queue, so a tenth of it is plenty.
CHART_DEFERRED_EVENTS: Final = 1_000
#: Steps that one chart remembers, at ~200 bytes each: 100 kB, twice what a chart takes without them.  A node's chart
#: takes some ten events for each change of the document, so this holds the last 50 changes, or hours of a quiet fleet.
CHART_STEPS: Final = 500
#: Charts that are gone whose steps are still remembered: the scouts of one small discovery; 6 MB if all were busy.
GONE_CHARTS: Final = 64
#: Events named in a step as sent by it; a handler that sends more sends many of one kind.
STEP_SENT: Final = 16
#: Characters of a payload or of a line of the spy in a step; documents may be long, and a line on a terminal is 100.
STEP_TEXT: Final = 500
#: Levels of a payload that are shown in a step.
STEP_DEPTH: Final = 6
#: How long `stop` of a file chart lets earlier requests finish: durable writes take 0.5 to 10 ms each.
STOP_FINISH_S: Final = 5.0
#: Requests that wait for the file in one chart; reads and writes are counted separately.
WAITING_REQUESTS: Final = 1_000

# --- the wire -------------------------------------------------------------------------------------

#: An encrypted body: a full document, its metadata (x 2) and Fernet's base64 (x 4/3), rounded up.
BODY_BYTES: Final = 24 * 1024 * 1024
#: Keys in a key ring: each wrong key costs one HMAC of the body (~5 us at 2 kB).
RING_KEYS: Final = 8
#: A key file: a full ring at 45 bytes a key is 360; the rest is room for comments.
KEY_FILE_BYTES: Final = 64 * 1024
#: A `.env` or TOML file: thousands of settings of 1 kB; a larger file is no settings file.
SETTINGS_FILE_BYTES: Final = 4 * 1024 * 1024
#: A decrypted message: a document at its cap, the same again for escapes and metadata, and the envelope.
#: Encrypted (x 4/3) it stays below `BODY_BYTES`.
MESSAGE_BYTES: Final = 2 * DOCUMENT_BYTES + 64 * 1024
#: Nesting of a message: a document at its cap, inside a field of the body, inside the body, inside the message.
MESSAGE_DEPTH: Final = DOCUMENT_DEPTH + 4
#: The name of a scope, document, site or exchange: AMQP's limit for a routing key or name.
PLACE_WORD_BYTES: Final = 255
#: A host's name: DNS's limit.
HOST_NAME_BYTES: Final = 255
#: A message's id or a boot nonce.
MESSAGE_ID_BYTES: Final = 64
#: Shortest time between two log lines about the same cause of refusal; refusals in between are only counted.
REFUSAL_LOG_S: Final = 60.0
#: How long a request's id is remembered: four minutes is longer than any queue keeps a request.
REPLAY_WINDOW_S: Final = 240.0
#: Request ids remembered: 10 MB at ~150 bytes each; a flood beyond that evicts the oldest.
REPLAY_IDS: Final = 65_536

# --- the mesh of `miros-rabbitmq` -----------------------------------------------------------------------

#: A decrypted message of the old mesh: its events are a few hundred bytes, but cache contents travel this way too.
MESH_MESSAGE_BYTES: Final = 4 * 1024 * 1024
#: The same encrypted: Fernet's base64 (x 4/3), rounded up.
MESH_BODY_BYTES: Final = 6 * 1024 * 1024
#: A line of a spy or trace: room for a full screen of one event's payload.
MESH_LINE_BYTES: Final = 64 * 1024
MESH_LINE_BODY_BYTES: Final = 96 * 1024
#: Opcodes of a pickled pair of strings: the longest that Python 3.4 and later write takes 10.
PICKLE_OPERATIONS: Final = 10
#: The highest memo index of such a pickle: 0 to 2, for the strings and the tuple.
PICKLE_MEMO: Final = 2
#: The name of a signal: eight times the length of miros' own names.
SIGNAL_NAME_BYTES: Final = 255
#: Signals that only other hosts name: `miros` never forgets a signal, and scans all of them for each new event (2 us
#: at 256).
NEW_SIGNALS: Final = 256
#: Tokens remembered, so that none is accepted twice: 40 MB at 150 bytes each.  5,000 events a second fill it in 50 s;
#: older tokens are then refused.
MESH_TOKENS: Final = 262_144
#: Events that wait for one broker, ~1 kB each: a minute of the old mesh's throughput.
MESH_OUTBOX_EVENTS: Final = 10_000
#: Bytes of these events in total.
MESH_OUTBOX_BYTES: Final = 16 * 1024 * 1024
#: How many of these the link has in flight; a lost link loses them, and they are sent again.
MESH_IN_FLIGHT: Final = 500
#: Events waiting in a program's own mesh queue: as many as its chart accepts.
MESH_QUEUE_MESSAGES: Final = CHART_QUEUE_EVENTS
#: Received events that wait for the program's own method; the same cap holds for lines.
MESH_INBOX: Final = CHART_QUEUE_EVENTS
#: How long an event waits at the broker for the host that speaks: as long as it counts by default, so that one that a
#: silent host had taken is still there for the next.
MESH_ELECTION_TTL_MS: Final = 300_000
#: Marks of taken writes that hosts tell each other, ~40 bytes each: three writes a second for the age of a token.
MESH_MARKS: Final = 1_000
#: The last term of those who speak in the mesh, which does not end: JSON's largest safe integer (RFC 8259, section 6).
MESH_TERMS: Final = 2**53 - 1
#: A mark's part of a token: half of its HMAC.
MESH_MARK_BYTES: Final = 16
#: Event ids remembered, so that an event that arrives through two brokers of a cluster counts once (~150 bytes each).
MESH_IDS: Final = 10_000

# --- RabbitMQ -------------------------------------------------------------------------------------

#: Messages in a node's queue: the newest state wins, so old ones may be dropped (the next digest repairs the loss).
NODE_QUEUE_MESSAGES: Final = 1_000
#: Bytes in a node's queue, the bound that matters for large documents.
NODE_QUEUE_BYTES: Final = 64 * 1024 * 1024
#: Unacknowledged deliveries in flight: acks in batches of 100 gave 4x the throughput of single acks.
PREFETCH: Final = 100
#: Publications waiting for a link or a confirm.  The newest state supersedes older ones, so few are ever needed.
PUBLISH_BACKLOG: Final = 1_000
#: Bytes of these publications in total; a single larger one is accepted if nothing else waits.
PUBLISH_BACKLOG_BYTES: Final = 64 * 1024 * 1024
#: A message's kind, percent-encoded: leaves ~210 of a routing key's 255 bytes for scope and document.
KIND_BYTES: Final = 32
#: Requests that one host has taken and not yet acknowledged.  A host that stops at that moment loses them (they are
#: asked again), so the cap is far smaller than for its own queue.
REQUEST_PREFETCH: Final = 4
#: Requests waiting for a host that can answer: one per joining host, dropped by its time to live.
REQUEST_QUEUE_MESSAGES: Final = 1_000
#: At ~1 kB each; leaves room for long names and four keys' worth of header.
REQUEST_QUEUE_BYTES: Final = 4 * 1024 * 1024
#: The broker deletes a request queue that has had no consumer and no declaration for this long.
REQUEST_QUEUE_EXPIRES_MS: Final = 10 * 60 * 1000
#: How long the broker has to confirm the request queue before the link comes up without it: well above a round trip
#: around the world (0.3 s), and small beside the 5 s that a join may take.
REQUEST_QUEUE_WAIT_S: Final = 1.0
#: A refused request queue is retried within this time, but not before half of it.  A restart of its home node takes
#: about as long; a thousand hosts that retry make 130 declarations a second, and a broker handles some 5,000.
REQUEST_QUEUE_RETRY_S: Final = 10.0
#: How long the broker has to say whether a lease is granted: see `Link.acquire_lease`.
LEASE_WAIT_S: Final = 2.0
#: Reconnect: full jitter below min(cap, base x 2^n).
RECONNECT_BASE_S: Final = 0.2
RECONNECT_TOP_S: Final = 5.0
#: After each round in which all brokers may have been too busy, an attempt may take twice as long, up to this many
#: times.  Of a thousand hosts that connect at once to a broker with two cores, which takes some 100 a second, most
#: would give up after 5 s and begin again for ever.
PATIENCE_TOP: Final = 4.0

# --- discovery ------------------------------------------------------------------------------------

#: Concurrent scouts in one process: bounds its sockets, and its SYNs to what a small router can handle.
SCOUTS_AT_ONCE: Final = 256
#: Lost peers that are searched for, and concurrent scouts for them: a /22 that lost its power.
SUSPECTS: Final = 1_024
#: Bytes read from a server that claims to be AMQP, before it counts as one that sends without end.
BANNER_BYTES: Final = 16 * 1024
#: How long the probes' thread stays idle before it ends: a new one costs 0.2 ms.
PROBER_IDLE_S: Final = 5.0
#: Concurrent name lookups, one thread each because `getaddrinfo` blocks (up to 30 s on a dead resolver).
#: Numeric addresses need no lookup.
LOOKUPS_AT_ONCE: Final = 32
#: Addresses of one name that are tried in turn; they share the probe's time.
ADDRESSES_PER_NAME: Final = 4
#: Time for each of the two connection attempts that a sweep makes at an address: local networks answer in milliseconds,
#: and a machine misses only the first SYN.
SWEEP_ATTEMPT_S: Final = 0.5
#: Concurrent sockets of one sweep, each with a SYN and an ARP request: a /22 in one pass.
SWEEP_SOCKETS: Final = 1024
#: Descriptors that a sweep leaves free for the program it runs in.
SWEEP_SPARE_DESCRIPTORS: Final = 64
#: Attempts started between two polls for answers: ~1 ms of work, which is then the error of a measured round trip.
SWEEP_BURST: Final = 16
#: A sweep leaves one in this many entries of the kernel's neighbour table free for others.
SWEEP_NEIGHBOUR_RESERVE: Final = 8
#: Concurrent addresses however full the table is: the sweep is slow then, but it ends.
SWEEP_NEIGHBOURS_LEAST: Final = 64
#: Linux gives up on an address after three ARP requests a second apart; only then can its entry be reclaimed.
NEIGHBOUR_GIVEN_UP_S: Final = 3.2
#: Linux does not reclaim a resolved entry for 5 s.
NEIGHBOUR_KEPT_S: Final = 5.2
#: A hosts file: room for 4096 names of the maximum length.
HOSTS_FILE_BYTES: Final = 2 * 1024 * 1024
#: Good hosts of a hosts file that are found within this time are reported together; dead hosts delay them no longer.
HOSTS_TOLD_AFTER_S: Final = 0.05
#: Back-off of the search for a lost peer: it starts at the first value and doubles up to the second, less a jitter of
#: up to half.  If all 4096 peers of a document at its cap are gone, that makes some 18 scouts a second.
PEER_RETRY_BASE_S: Final = 2.0
PEER_RETRY_TOP_S: Final = 300.0
#: The largest network that can be swept: 65,534 addresses, four minutes at the pace of the neighbour table.
SWEEP_PREFIX: Final = 16
#: How often a sweep reports its progress: as often as a progress bar can show it.
SWEEP_PROGRESS_S: Final = 0.05

# --- the fleet ------------------------------------------------------------------------------------

#: Shortest interval between digests (RFC 6206's Imin): after a disagreement, and after joining alone.
DIGEST_LEAST_S: Final = 1.0
#: Equal digests in one interval that are no reason to make it longer.  Of 1,000 hosts that hear each other after 60 ms,
#: 1,000 x 0.06 / 0.5 = 120 send within the shortest interval, each to all others; within one of 30 s it is these four.
DIGESTS_AT_ONCE: Final = 4
#: The longest that the shortest interval gets, the default of `digest_interval_s`: a difference is said within this.
DIGEST_CROWD_S: Final = 30.0
#: In a fleet of `JOIN_CROWD` hosts and more: the first interval of a host that was answered, which has nothing new to
#: say, and of one that others were too busy to answer, which may lack something.
DIGEST_ANSWERED_S: Final = 30.0
DIGEST_UNANSWERED_S: Final = 8.0
#: Documents that a host sends without a pause, and how soon it may send one more: a program that waits for each write's
#: effect is rarely faster.  Writes that pile up reach the fleet 20 times a second instead, all together each time,
#: because every receiver spends some 5 ms on storing each document durably.
SPREAD_AT_ONCE: Final = 10
SPREAD_LEAST_S: Final = 0.01
SPREAD_MOST_S: Final = 0.05
#: How long a host keeps the lease for a discovery's result that the broker has not confirmed yet.  A document of 1 MB
#: is sealed to at most 3 MB, 2.4 s at 10 Mbit/s; a lost one goes out again within 2 s, which makes 7 s.  A host that
#: waits for the lease in the meantime would wait 300 s.
RESULT_TAKEN_S: Final = 10.0
#: How many peers a joining host asks, one after another, before it considers itself the first.
JOIN_ATTEMPTS: Final = 3
#: A host that hears a joining host's digest sends its own within this time, unless another was faster.  Of 100 hosts
#: that hear each other after 5 ms, 100 x 5 / 250 = 2 send all the same.
JOIN_DIGEST_S: Final = 0.25
#: Joining hosts that ask everybody within `JOIN_CROWD_S`, the time in which they give up; further ones do not ask, and
#: are not answered.  A question reaches all, and so does each answer: 16 x 1,000 deliveries for 1,000 hosts, not 3 x
#: 1,000 x 1,000.  One digest answers them together, at 64 bytes an id.
JOIN_CROWD: Final = 16
JOIN_CROWD_S: Final = 3.0
#: Open document requests of one host: a join asks three times in two ways, a read of the fleet once a second.  Each
#: keeps the document that was held when it was asked; they share it.  The listing of the fleet's nodes is one more.
OPEN_REQUESTS: Final = 15
#: Rate of one host's answers, in bytes of document: sealing takes ~20 ns a byte, so 8 MiB a second is a sixth of a
#: core, and a document at its cap goes out once a second.  The burst is four times that: 300 hosts that join together,
#: at 100 kB each.
ANSWER_BYTES_PER_S: Final = 8 * 1024 * 1024
ANSWER_BYTES_AT_ONCE: Final = 32 * 1024 * 1024
#: The least that an answer counts for, because each costs an encryption and a message: 2,048 a second.
ANSWER_LEAST_BYTES: Final = 4096
#: Hosts remembered whose documents exceed a cap when merged with this host's (~300 bytes each).
REFUSED_DOCUMENTS: Final = 16
#: How long another host's fast clock stays in `trouble` after it was last heard: ten digest intervals.
CLOCK_TROUBLE_S: Final = 300.0
#: Checks and counters of one node's status: there are nine, and some sixty; more comes from a stranger's program.
STATUS_CHECKS: Final = 32
STATUS_COUNTERS: Final = 512
#: How long a node that is asked for its status waits for its disk: the probe takes milliseconds, and an asker takes the
#: list for complete when no answer has come for half a second.
STATUS_DISK_S: Final = 0.3
#: Status requests that wait for the disk at the same time; further ones are answered without it.
STATUS_WAITING: Final = 64
#: Clocks of other hosts that a host compares with its own (~200 bytes each): as good a majority as all of them.
CLOCKS_COMPARED: Final = 64
#: The same complaint about the same host is repeated after this long.
REPORT_AGAIN_S: Final = 300.0
#: Complaints about hosts that are remembered: bounds the memory that names from outside can use (~100 bytes each).
COMPLAINTS: Final = 1_000
#: Requests from the link's thread that wait for the node's thread; documents are merged while they wait, so they need
#: only one slot.
INBOX_REQUESTS: Final = 1_000
#: A watch of a host's traces ends by itself after this long; its watcher renews it three times as often.
TRACE_WATCH_S: Final = 30.0
TRACE_RENEW_S: Final = 10.0
#: Watches of one host at a time; further ones are told so.  Each costs a sealing of the same steps.
TRACE_WATCHES: Final = 8
#: How often a watched host sends what is new: often enough for a person, and four messages a second at most a watch.
TRACE_EVERY_S: Final = 0.25
#: What all watches together may cost a host, in bytes of steps before they are sealed: at ~150 bytes each 1,700 steps a
#: second, sealed in 5 ms; and at once the steps that twenty busy charts remember (20 x 500 x 150 bytes).
TRACE_BYTES_PER_S: Final = 256 * 1024
TRACE_BYTES_AT_ONCE: Final = 1536 * 1024
#: Steps in one message: ~40 kB, sealed in 1 ms.
TRACE_STEPS: Final = 256
#: Steps that a watched host holds for its watchers, its followers' among them: 4 MB at ~200 bytes each, and
#: at most 60 MB where somebody watches long spies; a watcher that
#: the rate keeps farther behind misses steps, and is told how many.
TRACE_HELD: Final = 20_000
#: Bytes of one step: names at their longest, a payload, and a few lines of the spy.
TRACE_STEP_BYTES: Final = 3_000
#: Characters of a name in a step.
TRACE_NAME: Final = 100
#: Trace messages that wait for a watcher to print them: 1,000 x 40 kB; a fleet that is faster is not read by a person.
TRACE_WAITING: Final = 1_000
#: Peers in a LAN document: no program would dial a /16 of them; 4096 is four times the largest sweep.
LAN_PEERS: Final = 4096
#: The longest time-out that the settings accept: ten years.
TIME_OUT_MINUTES: Final = 10 * 366 * 24 * 60
#: A discovery that ended less than this ago still counts, even if the document expires at once
#: (``time_out_in_minutes: 0``): its result must not trigger the next discovery.
DISCOVERED_JUST_NOW_S: Final = 1.0

# --- one host -------------------------------------------------------------------------------------

#: A socket's path: the kernel allows 108 bytes on Linux and 104 on macOS, including the final zero.
SOCKET_PATH_BYTES: Final = 103
#: Followers of one bridge: 30 MB at ~3 kB each.  The limit on open files (`ulimit -n`) is usually reached first.
HOST_FOLLOWERS: Final = 10_000
#: Descriptors that a bridge leaves free for the program it runs in; followers get the rest.
HOST_SPARE_DESCRIPTORS: Final = 256
#: Connections not accepted yet: a thousand followers reconnect at the same moment; Linux's own cap is 4096.
HOST_BACKLOG: Final = 4096
#: One message from a follower: a question is ~100 bytes, a version 64.
HOST_REQUEST_BYTES: Final = 4096
#: One message from a bridge: an answer contains a document, as a fleet message does.
HOST_ANSWER_BYTES: Final = MESSAGE_BYTES
#: Large answers that wait in a bridge for their followers, in total; beyond it the answer is "busy".  Small answers (up
#: to `HOST_SEND_BYTES`) are bounded by `HOST_QUESTIONS`: 128 MiB, for seconds.
HOST_BUFFER_BYTES: Final = 64 * 1024 * 1024
#: Kernel send buffer for one follower, ~20 notices: 10,000 followers that do not read hold at most 320 MB.
HOST_SEND_BYTES: Final = 32 * 1024
#: Open questions of one follower: one for each of a few threads that ask.
HOST_QUESTIONS_EACH: Final = 16
#: Open questions of all followers; they share one message to the fleet, and each costs ~300 bytes here.
HOST_QUESTIONS: Final = 4096
#: The longest that a question may wait for its answer, in seconds: a day.
HOST_QUESTION_S: Final = 86_400
#: Text of a bridge's trouble with its broker, in every notice.
HOST_TEXT_BYTES: Final = 500
#: Interval of a bridge's heartbeats to its followers.  A thousand followers cost 5 ms of one core each time.
HOST_BEAT_S: Final = 1.5
#: A follower that hears nothing from the bridge for this long falls back to the file: three beats and a slow host.
HOST_ANSWER_S: Final = 5.0
#: A follower whose buffer stays full for this long does not read: it is dropped, and reconnects once it reads again.
HOST_STALLED_S: Final = 5.0
#: A dead bridge is replaced within ~50 ms; after this long without one, followers watch the file.
HOST_SWITCH_S: Final = 0.5
#: How long a disk probe's result is valid: well within the 30 s in which `health` has to notice a broken disk.
DISK_LOOK_S: Final = 10.0
#: The most that a disk probe writes; the system is asked whether a larger document has room.
DISK_LOOK_BYTES: Final = 64 * 1024
#: A disk that takes longer than this for one probe hangs.
DISK_LOOK_HANGS_S: Final = 5.0
#: Back-off of the search for a bridge: the first pause, doubled each time, and the longest.
HOST_RETRY_BASE_S: Final = 0.005
HOST_RETRY_TOP_S: Final = 1.0
#: The pause after a bridge has refused us.
HOST_REFUSED_S: Final = 5.0
#: Requests in a row that RabbitMQ has delivered back to their own sender: with one other host, chance alone does
#: that once in 2^8 times.
OWN_REQUESTS: Final = 8

# --- metrics --------------------------------------------------------------------------------------

#: Requests for metrics that are served at the same time, a thread each; a further one is hung up on.  One Prometheus
#: sends one every 15 s, a supervisor two.
METRICS_CLIENTS: Final = 16
#: A client whose request is not whole after this long is hung up on.
METRICS_CLIENT_S: Final = 5.0
#: How long the node's thread has to say whether it is well; a disk that hangs is told after `DISK_LOOK_HANGS_S`.
METRICS_HEALTH_S: Final = 5.0

# --- the live page ----------------------------------------------------------------------------------

#: Pages that may be open at once.  A picture of 64 nodes is ~60 kB: every 2 s to 32 pages that is 1 MB/s.
VIEW_PAGES: Final = 32
#: A browser that does not read for this long loses its stream, and its place among the pages; it connects again.
VIEW_STALLED_S: Final = 30.0
#: Nodes in the picture; more would not be looked at.
VIEW_NODES: Final = 256
#: Keys of the document on the page, the latest first, and characters of each value.
VIEW_ENTRIES: Final = 200
VIEW_VALUE_CHARACTERS: Final = 300
#: Transitions that the page lists, ~150 bytes each; charts that it knows, and ways of each.
VIEW_CHANGES: Final = 200
VIEW_CHARTS: Final = 512
VIEW_WAYS: Final = 200
#: Counters that are plotted: 64 of them with 180 points each are ~100 kB, sent once to each page.
VIEW_COUNTERS: Final = 64
