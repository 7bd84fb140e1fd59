/* Leases, claims and appends of one job, as the Lua scripts do them. Each script is an atomic
 * step, since Redis runs one at a time; everything between two scripts can interleave, and a
 * worker can be stopped, killed, or told nothing of what it asked.
 *
 *   spin -a jobs.pml && cc -O2 -o pan pan.c
 *   ./pan -m100000 -a -N safe && ./pan -m1000000 -a -f -N ends
 */

#define WORKERS 3
#define EVENTS  3          /* the last one is the end */
#define DEATHS  2          /* workers that are killed */
#define SLEEPS  2          /* leases that lapse under a worker that lives */
#define OUTAGES 2          /* answers that are lost on their way */
#define NOBODY  255

byte epoch = 0;            /* of the job; each claim adds one */
byte last = 0;             /* number of its newest event */
byte holder = NOBODY;
bool leased = false;       /* a lease that has not run out */
bool queued = false;       /* in line */
bool ended = false;
byte written[EVENTS + 1];  /* how often each number was written */
byte writer_of[EVENTS + 1];
byte content[EVENTS + 1];  /* which event of the generation stands there */

byte deaths = 0, sleeps = 0, outages = 0;
byte alive = WORKERS;
bool seen[EVENTS + 1];     /* what the reader was given */
byte read = 0;

/* append.lua. `known` is what the worker hears of it: 2 is no answer at all. */
inline append(mine, number, known) {
  atomic {
    if
    :: epoch != mine -> known = 0
    :: epoch == mine && last >= number -> known = 1         /* asked again */
    :: epoch == mine && last < number && (ended || last + 1 != number) -> known = 0
    :: epoch == mine && last + 1 == number && !ended ->
       last = number;
       written[number]++;
       writer_of[number] = mine;
       content[number] = number;
       if
       :: number == EVENTS -> ended = true; leased = false
       :: else
       fi;
       known = 1
    fi;
    if
    :: outages < OUTAGES -> outages++; known = 2
    :: true
    fi
  }
}

proctype Worker(byte me) {
  byte mine, at, known;
idle:
  if
  :: atomic {                                                /* take.lua: in line */
       queued && !ended -> queued = false; epoch++; holder = me; leased = true;
       mine = epoch; at = last
     }
  :: atomic {                                                /* take.lua: a lease that ran out */
       !queued && !leased && holder != NOBODY && !ended ->
       epoch++; holder = me; leased = true; mine = epoch; at = last
     }
  :: ended -> goto done
  fi;
work:
  do
  :: append(mine, at + 1, known);
     if
     :: known == 0 -> goto idle                              /* replaced: it writes nothing more */
     :: known == 1 -> at++; if :: at == EVENTS -> goto idle :: else fi
     :: known == 2 -> skip                                   /* asks again */
     fi
  :: atomic { sleeps < SLEEPS && holder == me && leased -> sleeps++; leased = false }
  :: atomic { holder == me && epoch == mine && !leased && !ended -> leased = true } /* beat.lua */
  :: atomic { deaths < DEATHS -> deaths++; alive--;
              if :: holder == me && epoch == mine -> leased = false :: else fi };
     goto done                                               /* killed; its lease runs out */
  :: atomic { sleeps < SLEEPS -> sleeps++;                   /* give_back.lua, at a shutdown */
              if
              :: epoch == mine && !ended ->
                 epoch++; holder = NOBODY; leased = false; queued = true
              :: else
              fi };
     goto idle
  od;
done:
  skip
}

/* A reader that asks for what is behind its own position, again where it has lost the answer. */
proctype Reader() {
  do
  :: atomic { read < last -> read++; assert(!seen[read] && content[read] == read);
              seen[read] = true }
  :: atomic { ended && read == last -> break }
  od;
  assert(read == EVENTS)
}

init {
  byte each = 0;
  atomic {
    queued = true;                                           /* create.lua, by an edge */
    do
    :: each < WORKERS -> run Worker(each); each++
    :: else -> break
    od;
    run Reader()
  }
}

/* No number is written twice, none is left out, and writers only ever follow newer ones. */
ltl safe { [] ( written[1] <= 1 && written[2] <= 1 && written[3] <= 1
             && (last < 1 || written[1] == 1) && (last < 2 || written[2] == 1)
             && (last < 3 || written[3] == 1)
             && (last < 2 || writer_of[1] <= writer_of[2])
             && (last < 3 || writer_of[2] <= writer_of[3]) ) }

/* The job ends and is read to its end, as long as one worker lives. */
ltl ends { <> (ended && read == EVENTS) }
