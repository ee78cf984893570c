"""Every cap of the project, with the arithmetic that led to it.."""

from __future__ import annotations

TYPE_CHECKING = False  # typing takes longer to import than a reader lives
if TYPE_CHECKING:
    from typing import Final

# --- documents ------------------------------------------------------------------------------------

#: A document's text.  A /16 of peers at ~15 bytes each is 1 MB; 8 MiB leaves room for any discovery
#: result and keeps one parse (~10 ns a byte) below 0.1 s and one frozen copy below ~100 MB.
DOCUMENT_BYTES: Final = 8 * 1024 * 1024
#: Nesting.  People write < 10; CPython's own parser gives up near 1000, a hostile 8 MiB of "[" must not get there.
DOCUMENT_DEPTH: Final = 64
#: Visible top-level keys: each costs ~100 bytes of metadata, so at most ~6.5 MB of it.
DOCUMENT_KEYS: Final = 65_536
#: Deleted keys that an update may leave; one that would leave more is made as a whole write, which needs none of them.
#: With a key of 20 bytes each costs ~60, together 0.25 MB.  What hosts deleted apart from each other adds up when it is
#: merged; only `DOCUMENT_BYTES` bounds that, at 30 bytes each or more to 280,000 and ~80 MB in memory.
TOMBSTONES: Final = 4_096
#: A top-level key in UTF-8 bytes.
KEY_BYTES: Final = 1024
#: Digits of a whole number: CPython's own default for parsing, which keeps the quadratic conversion cheap.
NUMBER_DIGITS: Final = 4300
#: The same in bits (x log2 10), rounded down, so that what is written can be read.
NUMBER_BITS: Final = 14_000
#: No number of so many characters has more bits (14,000 / log2 10 = 4214.4); of longer ones the bits are counted.
NUMBER_DIGITS_WRITTEN: Final = 4214
#: A stamp's logical counter: 16 bits.  Past it the physical part is moved on by one millisecond.
STAMP_COUNTER: Final = 0xFFFF
#: Physical part of a stamp: 48 bits of milliseconds reach the year 10889.
STAMP_WALL_MS: Final = 0xFFFF_FFFF_FFFF
#: The year 2200: later stamps and discoveries are refused, so that one wrong clock does not use up all there are.
LATEST_STAMP_MS: Final = 7_258_118_400_000
#: The year 2190: up to here a host's own clock counts.  The ten years in between hold 3e11 ms of 65,536 stamps each for
#: what comes after the last of them, 600 years at a million writes a second.
OWN_CLOCK_MS: Final = 6_942_585_600_000
#: Bytes of a node's name; it stands in every stamp.
NODE_NAME_BYTES: Final = 48
#: How far ahead of this machine's clock another's may be before it is said: NTP keeps them within milliseconds, and a
#: message may take seconds.  A discovery further ahead makes nobody's document young.
CLOCK_AHEAD_MS: Final = 60_000

# --- the file -------------------------------------------------------------------------------------

#: Back-off of an event that found the file taken: upper bound of the random wait after its n-th failure; the
#: last one stays.  A holder is inside for milliseconds, so the first waits are short; 5 s bound the worst.
BACKOFF_BOUNDS_S: Final = (0.1, 1.3, 2.5, 3.7, 5.0)
BACKOFF_LEAST_S: Final = 0.001
#: An un-writable file with a free lock and no mark belongs to a program that knows only the mode bit.
#: Such programs hold it for milliseconds; after this long it is taken for abandoned.
TAKE_OVER_AFTER_S: Final = 10.0
#: The lock file's record: a few short fields, written in place by one write() well below a page.
SIDECAR_BYTES: Final = 1024
#: Changes that waiting processes hand to the one inside: at 2 kB 2,000 of them, parsed in ~0.1 s.
BATCH_BYTES: Final = 4 * 1024 * 1024
#: One such change: what is larger would make the others wait for its parsing, and waits for its own turn.
BATCHED_CHANGE_BYTES: Final = 64 * 1024
#: Who leads them may be stopped (a debugger, a paused container) while others get in. A replacement takes milliseconds,
#: on a slow disk behind a long queue a second.
BATCH_WAIT_S: Final = 2.0
#: A truncating writer looks empty between its open() and its write(): how long to wait before such a
#: file is believed to be broken.
SETTLE_S: Final = 0.05
#: The same for one that goes on writing: readers wait meanwhile, so no longer than a person notices.
SETTLE_AT_MOST_S: Final = 1.0
#: Files set aside per document.  A broken writer in a loop must not fill the disk: 32 x 8 MiB = 256 MiB.
SET_ASIDE_FILES: Final = 32
#: Where the kernel gives no more file watches, how often the document's identity is looked at.
SLOW_STAT_S: Final = 1.0

# --- charts ---------------------------------------------------------------------------------------

#: Events waiting in one chart.  At ~2 kB each 20 MB; a chart that is 10,000 behind (at 50 us an event
#: half a second) refuses new ones, says so and counts them.
CHART_QUEUE_EVENTS: Final = 10_000
#: Events that one chart has put off with `defer`; each came through the queue, so a tenth of it is plenty.
CHART_DEFERRED_EVENTS: Final = 1_000
#: What `stop` of a file chart gives requests that were made before it: durable writes take 0.5 to 10 ms each.
STOP_FINISH_S: Final = 5.0
#: Requests that wait for the file in one chart, reads and writes each.
WAITING_REQUESTS: Final = 1_000

# --- the wire -------------------------------------------------------------------------------------

#: An encrypted body: a full document, its metadata (x 2) and Fernet's base64 (x 4/3), rounded up.
BODY_BYTES: Final = 24 * 1024 * 1024
#: Keys in a ring: each costs one HMAC of the body to find out that it is not the one (~5 us at 2 kB).
RING_KEYS: Final = 8
#: A key file: a full ring at 45 bytes a key is 360; the rest is room for comments.
KEY_FILE_BYTES: Final = 64 * 1024
#: A decrypted message: a document at its cap, as much again for escapes and metadata, and the envelope.
#: Encrypted (x 4/3) it stays below `BODY_BYTES`.
MESSAGE_BYTES: Final = 2 * DOCUMENT_BYTES + 64 * 1024
#: Nesting of a message: a document at its cap, inside a field of the body, inside the body, inside the message.
MESSAGE_DEPTH: Final = DOCUMENT_DEPTH + 4
#: A scope, document, site or exchange: what AMQP carries in a routing key or name at all.
PLACE_WORD_BYTES: Final = 255
#: A host's name, as DNS has it.
HOST_NAME_BYTES: Final = 255
#: A message's id or a boot nonce.
MESSAGE_ID_BYTES: Final = 64
#: The same cause of refusal is logged this often at most; in between it is counted.
REFUSAL_LOG_S: Final = 60.0
#: How long a request's id is remembered: four minutes are longer than any queue keeps one.
REPLAY_WINDOW_S: Final = 240.0
#: Request ids remembered: at ~150 bytes each 10 MB; a flood beyond that forgets the oldest.
REPLAY_IDS: Final = 65_536

# --- RabbitMQ -------------------------------------------------------------------------------------

#: Messages in a node's queue: newest state wins, so old ones may go (the next digest repairs).
NODE_QUEUE_MESSAGES: Final = 1_000
#: Bytes in a node's queue, the bound that matters for large documents.
NODE_QUEUE_BYTES: Final = 64 * 1024 * 1024
#: Unacknowledged deliveries in flight: acks batched at 100 carried 4x more than one by one.
PREFETCH: Final = 100
#: Publications waiting for a link or a confirm.  Newest state supersedes, so few are ever needed.
PUBLISH_BACKLOG: Final = 1_000
#: Their bytes together; a single larger one is taken when nothing else waits.
PUBLISH_BACKLOG_BYTES: Final = 64 * 1024 * 1024
#: A message's kind, percent-encoded: leaves ~210 of a routing key's 255 bytes to scope and document.
KIND_BYTES: Final = 32
#: Requests taken and not yet acknowledged by one host: what a host stopped in that moment takes down with it
#: (they are asked again), so far fewer than of its own queue.
REQUEST_PREFETCH: Final = 4
#: Requests waiting for somebody who can answer: one a joining host, dropped by its time to live.
REQUEST_QUEUE_MESSAGES: Final = 1_000
#: At ~1 kB each; leaves room for long names and four keys' worth of header.
REQUEST_QUEUE_BYTES: Final = 4 * 1024 * 1024
#: A request queue without consumer or declaration for this long is removed by the broker.
REQUEST_QUEUE_EXPIRES_MS: Final = 10 * 60 * 1000
#: What a broker is given to say whether the request queue can be had, before the link stands without it: well above a
#: journey around the world (0.3 s), and little beside the 5 s that a join may take.
REQUEST_QUEUE_WAIT_S: Final = 1.0
#: A request queue that was refused is tried again within this, half of it at the least.  Its home's restart takes
#: about as long; a thousand hosts that try are 130 declarations a second, of some 5,000 that a broker does.
REQUEST_QUEUE_RETRY_S: Final = 10.0
#: A broker that has not said by then whether a lease is granted: see `Link.acquire_lease`.
LEASE_WAIT_S: Final = 2.0
#: Reconnect: full jitter below min(cap, base x 2^n).
RECONNECT_BASE_S: Final = 0.2
RECONNECT_TOP_S: Final = 5.0

# --- discovery ------------------------------------------------------------------------------------

#: Scouts at once in one process: sockets, and SYNs that a small router can take.
SCOUTS_AT_ONCE: Final = 256
#: Peers that are gone and looked for, and scouts for such at a time: a /22 that lost its power.
SUSPECTS: Final = 1_024
#: Bytes read from a server that claims to be AMQP before it is told from one that talks for ever.
BANNER_BYTES: Final = 16 * 1024
#: How long the probes' thread stays when nothing is asked of it: a new one costs 0.2 ms.
PROBER_IDLE_S: Final = 5.0
#: Names looked up at once, a thread each because `getaddrinfo` blocks (a dead resolver holds it for up to 30 s).
#: Addresses given as numbers never wait for one.
LOOKUPS_AT_ONCE: Final = 32
#: Addresses of one name that are tried in turn; the probe's time is divided among them.
ADDRESSES_PER_NAME: Final = 4
#: One of the two connection attempts that a sweep makes at each address: local networks answer in milliseconds, and a
#: machine that missed the first SYN misses it once.
SWEEP_ATTEMPT_S: Final = 0.5
#: Sockets of one sweep at once, each with a SYN and an ARP request: a /22 in one go.
SWEEP_SOCKETS: Final = 1024
#: Descriptors that a sweep leaves to the program it runs in.
SWEEP_SPARE_DESCRIPTORS: Final = 64
#: Attempts started between two looks at the answers: ~1 ms of work, so that round trips are measured as well as that.
SWEEP_BURST: Final = 16
#: The part of the kernel's neighbour table that a sweep leaves to others: one in so many entries.
SWEEP_NEIGHBOUR_RESERVE: Final = 8
#: However full the table is, so many are asked at once: the sweep is slow then, but it ends.
SWEEP_NEIGHBOURS_LEAST: Final = 64
#: Linux gives an address up after three ARP requests a second apart; only then can its entry be reclaimed.
NEIGHBOUR_GIVEN_UP_S: Final = 3.2
#: An entry that was resolved is not reclaimed for 5 s.
NEIGHBOUR_KEPT_S: Final = 5.2
#: A hosts file: 4096 names of the greatest length fit.
HOSTS_FILE_BYTES: Final = 2 * 1024 * 1024
#: Good hosts of a hosts file are told together when they come within this time; dead ones delay them no longer.
HOSTS_TOLD_AFTER_S: Final = 0.05
#: Dead hosts of a hosts file are tried again after a random part of this, doubled each time, up to the second.
HOSTS_RETRY_BASE_S: Final = 2.0
HOSTS_RETRY_TOP_S: Final = 300.0
#: The largest network that can be swept at all: 65,534 addresses, four minutes at the pace of the neighbour table.
SWEEP_PREFIX: Final = 16
#: How often a sweep tells how far it is: what a progress bar can show.
SWEEP_PROGRESS_S: Final = 0.05

# --- the fleet ------------------------------------------------------------------------------------

#: Shortest interval between digests (RFC 6206's Imin): after a disagreement, and after joining.
DIGEST_LEAST_S: Final = 1.0
#: Documents that a host sends without a pause, and how soon it has earned one more: who waits for the effect of each
#: write is rarely quicker.  Writes that pile up reach the fleet 20 times a second instead, each time all of them,
#: because every receiver stores what comes, durably, for some 5 ms.
SPREAD_AT_ONCE: Final = 10
SPREAD_LEAST_S: Final = 0.01
SPREAD_MOST_S: Final = 0.05
#: How many peers a joining host asks, one after another, before it takes itself for the first.
JOIN_ATTEMPTS: Final = 3
#: Whoever hears a joining host's digest says its own within this time, and keeps quiet if another was quicker.  Of 100
#: hosts that hear each other after 5 ms, 100 x 5 / 250 = 2 are not kept quiet in time.
JOIN_DIGEST_S: Final = 0.25
#: Joining hosts that one digest answers, at 64 bytes an id; further ones ask again within a second.
JOINERS_ANSWERED: Final = 64
#: Requests of one host that are not answered yet: a join asks three times in two ways, a listing once, a read of the
#: fleet once a second.  With each goes the document that was held when it was asked, which they share.
OPEN_REQUESTS: Final = 16
#: Answers that one host gives, in bytes of document: sealing takes ~20 ns a byte, so 8 MiB a second are a sixth of a
#: core, and a document at its cap goes out once a second.  At first four times that: 300 hosts that join together, with
#: 100 kB.
ANSWER_BYTES_PER_S: Final = 8 * 1024 * 1024
ANSWER_BYTES_AT_ONCE: Final = 32 * 1024 * 1024
#: What the smallest answer counts as, because each is an encryption and a message: 2,048 a second.
ANSWER_LEAST_BYTES: Final = 4096
#: Hosts remembered whose documents pass a cap together with this one's (~300 bytes each).
REFUSED_DOCUMENTS: Final = 16
#: How long it is in the trouble that another host's clock is ahead, since it was heard last: ten digest intervals.
CLOCK_TROUBLE_S: Final = 300.0
#: The same complaint about the same host is repeated after this long.
REPORT_AGAIN_S: Final = 300.0
#: Complaints about hosts that are remembered: bounds what names from outside can make of it (~100 bytes each).
COMPLAINTS: Final = 1_000
#: Requests from the link's thread that wait for the node's; documents are merged while they wait, so one is enough.
INBOX_REQUESTS: Final = 1_000
#: Peers in a LAN document: a /16 of them would be dialled by nobody; 4096 is four times the largest sweep.
LAN_PEERS: Final = 4096
#: A discovery that ended less than this ago answers for itself, even where the document is expired at once
#: (``time_out_in_minutes: 0``): what it wrote must not set off the next one.
DISCOVERED_JUST_NOW_S: Final = 1.0

# --- one host -------------------------------------------------------------------------------------

#: A socket's path with its final zero: 108 bytes on Linux, 104 on macOS.
SOCKET_PATH_BYTES: Final = 103
#: Followers of one bridge: at ~3 kB each 30 MB.  What the process may open (`ulimit -n`) usually ends it sooner.
HOST_FOLLOWERS: Final = 10_000
#: Descriptors that a bridge leaves to the program it lives in: the followers get what is above.
HOST_SPARE_DESCRIPTORS: Final = 256
#: Connections not accepted yet: a thousand followers come back in the same moment; Linux's own cap is 4096.
HOST_BACKLOG: Final = 4096
#: What a follower may send as one message: a question is ~100 bytes, a version 64.
HOST_REQUEST_BYTES: Final = 4096
#: What a bridge may send as one message: an answer holds a document, as a message of the fleet does.
HOST_ANSWER_BYTES: Final = MESSAGE_BYTES
#: Large answers that wait for their followers in a bridge, together; beyond it a question is answered with
#: "busy".  Small ones (up to `HOST_SEND_BYTES`) are bounded by `HOST_QUESTIONS`: 128 MiB, for seconds.
HOST_BUFFER_BYTES: Final = 64 * 1024 * 1024
#: Kernel buffer towards one follower, ~20 notices: 10,000 followers that do not read hold 320 MB at most.
HOST_SEND_BYTES: Final = 32 * 1024
#: Questions of one follower that are not answered yet: one for each of a few threads that ask.
HOST_QUESTIONS_EACH: Final = 16
#: The same of all followers; they share one message to the fleet, and each costs ~300 bytes here.
HOST_QUESTIONS: Final = 4096
#: The longest that a question may wait for its answer, in seconds: a day.
HOST_QUESTION_S: Final = 86_400
#: Text of a bridge's trouble with its broker, in every notice.
HOST_TEXT_BYTES: Final = 500
#: How often a bridge shows followers that it lives.  A thousand of them: 5 ms of one core each time.
HOST_BEAT_S: Final = 1.5
#: Without a sign from the bridge for this long a follower goes on with the file: three beats and a slow host.
HOST_ANSWER_S: Final = 5.0
#: A follower whose buffer stays full for this long does not read: dropped, it comes back when it does.
HOST_STALLED_S: Final = 5.0
#: A bridge that died is replaced within ~50 ms; after this long without one, followers watch the file.
HOST_SWITCH_S: Final = 0.5
#: Looking for a bridge: first pause, doubled each time, and the longest.
HOST_RETRY_BASE_S: Final = 0.005
HOST_RETRY_TOP_S: Final = 1.0
#: The same after a bridge has refused us.
HOST_REFUSED_S: Final = 5.0
#: Requests that RabbitMQ has handed back to their own sender, in a row: with one other host, chance alone does
#: that once in 2^8 times.
OWN_REQUESTS: Final = 8
