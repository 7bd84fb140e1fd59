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
#define REFUSAL 254        /* an end of another kind, at any number */

byte epoch = 0;            /* of the job; each claim adds one */
byte last = 0;             /* number of its newest event */
byte holder = NOBODY;
bool leased = false;       /* a lease that has not run out */
bool queued = false;       /* in line */
bool ended = false;
bool refused = false;      /* somebody wants it no more: its client, or the edge of one that left */
byte ends_written = 0;
byte written[EVENTS + 1];  /* how often each number was written */
byte writer_of[EVENTS + 1];
byte content[EVENTS + 1];  /* which event of the generation stands there */

byte deaths = 0, sleeps = 0, outages = 0;
byte alive = WORKERS;
bool seen[EVENTS + 1];     /* what the reader was given */
byte read = 0;

/* The next event, which is the end if it is the last one or a refusal. */
inline write(number, what, mine) {
  written[number]++;
  writer_of[number] = mine;
  content[number] = what;
  last = number;
  if
  :: what == EVENTS || what == REFUSAL -> ended = true; ends_written++; leased = false
  :: else
  fi
}

/* append.lua. `known` is what the worker hears of it: 2 is no answer at all. */
inline append(mine, number, what, known) {
  atomic {
    if
    :: epoch != mine -> known = 0
    :: epoch == mine && last >= number -> known = 1         /* asked again */
    :: epoch == mine && last < number && (ended || last + 1 != number) -> known = 0
    :: epoch == mine && last + 1 == number && !ended ->
       write(number, what, mine);
       known = 1
    fi;
    if
    :: outages < OUTAGES -> outages++; known = 2
    :: true
    fi
  }
}

/* refuse.lua. Who has no writer, or a dead one, ends here; a writer that lives hears of it. */
inline refuse() {
  atomic {
    if
    :: ended
    :: !ended && holder != NOBODY && !leased ->
       refused = true; epoch++; write(last + 1, REFUSAL, epoch)
    :: !ended && queued -> refused = true; queued = false; write(last + 1, REFUSAL, epoch)
    :: !ended && holder != NOBODY && leased -> refused = true
    fi
  }
}

proctype Worker(byte me) {
  byte mine, at, known;
idle:
  known = 1;
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
  :: append(mine, at + 1, at + 1, known);
     if
     :: known == 0 -> goto idle                              /* replaced: it writes nothing more */
     :: known == 1 -> at++; if :: at == EVENTS -> goto idle :: else fi
     :: known == 2 -> skip                                   /* asks again */
     fi
  :: refused && known == 1 ->                                /* what it asked before is known */
     do
     :: append(mine, at + 1, REFUSAL, known); if :: known != 2 -> goto idle :: else fi
     :: atomic { deaths < DEATHS -> deaths++; alive--;
                 if :: holder == me && epoch == mine -> leased = false :: else fi };
        goto done
     od
  :: atomic { sleeps < SLEEPS && holder == me && leased -> sleeps++; leased = false }
  :: atomic { holder == me && epoch == mine && !leased && !ended -> leased = true } /* beat.lua */
  :: atomic { deaths < DEATHS -> deaths++; alive--;
              if :: holder == me && epoch == mine -> leased = false :: else fi };
     goto done                                               /* killed; its lease runs out */
  :: atomic { sleeps < SLEEPS -> sleeps++;                   /* give_back.lua, at a shutdown */
              if
              :: epoch == mine && !ended ->
                 epoch++; holder = NOBODY; leased = false;
                 if
                 :: refused -> write(last + 1, REFUSAL, epoch)
                 :: !refused -> queued = true
                 fi
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
  :: atomic { read < last -> read++;
              assert(!seen[read]
                  && (content[read] == read || refused && content[read] == REFUSAL));
              seen[read] = true }
  :: atomic { ended && read == last -> break }
  od;
  assert(content[read] == EVENTS || content[read] == REFUSAL)
}

/* Whoever wants it no more, at any time or never. The answer may be lost: it asks again. */
proctype Owner() {
  if
  :: refuse(); if :: refuse() :: true fi
  :: true
  fi
}

init {
  byte each = 0;
  atomic {
    queued = true;                                           /* create.lua, by an edge */
    do
    :: each < WORKERS -> run Worker(each); each++
    :: else -> break
    od;
    run Reader();
    run Owner()
  }
}

/* No number is written twice, none is left out, writers only ever follow newer ones, and there is one
 * end at most: it is refused or answered, never both. */
ltl safe { [] ( written[1] <= 1 && written[2] <= 1 && written[3] <= 1
             && (last < 1 || written[1] == 1) && (last < 2 || written[2] == 1)
             && (last < 3 || written[3] == 1)
             && (last < 2 || writer_of[1] <= writer_of[2])
             && (last < 3 || writer_of[2] <= writer_of[3])
             && ends_written <= 1 ) }

/* The job ends and is read to its end, answered or refused, as long as one worker lives. */
ltl ends { <> (ended && read == last) }
