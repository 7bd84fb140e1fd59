/* Jobs in line and workers with slots, as create.lua, take.lua, give_back.lua and refuse.lua do it.
 * A job takes as many slots as it has answers. Who has asked for more than there was is called when
 * there is something; without calls a worker that has nothing to do looks again only now and then.
 *
 *   spin -a line.pml && cc -O2 -o pan pan.c && ./pan -m100000 -a -N taken_at_once
 *   spin -DLOSSES -a line.pml && cc -O2 -DNFAIR=3 -o pan pan.c && ./pan -m1000000 -a -f -N ends
 *
 * LOSSES adds workers that are killed, and looks now and then.
 */

#define JOBS    3
#define WORKERS 2
#define SLOTS   2
#define CANCELS 1          /* jobs that are refused while they are in line */
#define NOBODY  255

mtype = { unmade, waits, handed, runs, done };

mtype is[JOBS] = unmade;
byte with[JOBS] = NOBODY;  /* who has its lease */
byte answers[JOBS];
byte line[JOBS];
byte waiting = 0;
short idle[WORKERS] = -1;  /* how much more it has asked for than there was; -1: not in the set */
bool called[WORKERS];      /* it is to look again */
bool asleep[WORKERS];
bool draining[WORKERS], killed[WORKERS];
bool gone[WORKERS];        /* no sign of life any more */
byte used[WORKERS];        /* slots that jobs have in the worker's own books */
byte cancels = 0;
byte stays = WORKERS;

#if JOBS > 2
#define all_done (is[0] == done && is[1] == done && is[2] == done)
#else
#define all_done (is[0] == done && is[1] == done)
#endif
#define slots_of(job) (answers[job] > SLOTS -> SLOTS : answers[job])

/* Scratch of steps that are one. */
hidden byte w, j, best, room, taken, held;
bool fits;

inline call_worker(many) {
  best = NOBODY; w = 0;
  do
  :: w < WORKERS && idle[w] >= 0 && !gone[w] && (best == NOBODY || idle[w] >= idle[best]) ->
     best = w; w++
  :: w < WORKERS && !(idle[w] >= 0 && !gone[w] && (best == NOBODY || idle[w] >= idle[best])) -> w++
  :: w >= WORKERS -> break
  od;
  if
  :: best != NOBODY ->
     idle[best] = (idle[best] > many -> idle[best] - many : -1);
     called[best] = called[best] || !killed[best]
  :: else
  fi
}

inline call_next() {
  if
  :: waiting > 0 -> call_worker(answers[line[0]])
  :: else
  fi
}

inline drop(place) {       /* out of the line */
  w = place;
  do
  :: w + 1 < waiting -> line[w] = line[w + 1]; w++
  :: else -> break
  od;
  waiting--; line[waiting] = 0
}

inline hand(job, me) {     /* claim and lease */
  with[job] = me; is[job] = handed; room = room - slots_of(job)
}

inline take(me, free) {
  room = free; fits = true; taken = 0; j = 0;
  do                                                         /* leases that ran out */
  :: j < JOBS ->
     if
     :: room > 0 && fits && with[j] != NOBODY && gone[with[j]] ->
        if :: slots_of(j) <= room -> hand(j, me) :: else -> fits = false fi
     :: else
     fi;
     j++
  :: else -> break
  od;
  do                                                         /* then the line */
  :: room > 0 && fits && waiting > 0 ->
     if
     :: slots_of(line[0]) <= room -> hand(line[0], me); drop(0); taken++
     :: else -> fits = false
     fi
  :: else -> break
  od;
  idle[me] = -1;
  if
  :: taken > 0 || free == 0 -> call_next()
  :: else
  fi;
  idle[me] = (room > 0 -> (fits -> room : 0) : -1);
  held = 0; j = 0;
  do
  :: j < JOBS -> held = held + (with[j] == me -> slots_of(j) : 0); j++
  :: else -> break
  od;
  assert(held <= SLOTS);
  held = 0; j = 0; w = 0; best = 0; room = 0; taken = 0; fits = false
}

proctype Edge() {
  byte job = 0;
  do
  :: atomic { job < JOBS -> select(best : 1 .. SLOTS + 1); answers[job] = best };
     d_step {                                                /* create.lua */
       is[job] = waits; line[waiting] = job; waiting++;
       call_worker(answers[job]); w = 0; best = 0; job++
     }
  :: atomic { cancels < CANCELS && waiting > 0 ->            /* refuse.lua */
       cancels++; select(j : 0 .. waiting - 1) };
     d_step {
       if
       :: j < waiting -> is[line[j]] = done; answers[line[j]] = 0; drop(j); call_next()
       :: else
       fi;
       w = 0; best = 0; j = 0
     }
  :: job == JOBS -> break
  od
}

proctype Worker(byte me) {
  byte free;
look:
  atomic { called[me] = false; asleep[me] = false;
           free = (draining[me] -> 0 : SLOTS - used[me]) };
  d_step { take(me, free); free = 0 };
  do                                                         /* each is inside before another look */
  :: atomic { with[0] == me && is[0] == handed -> is[0] = runs; used[me] = used[me] + slots_of(0) }
  :: atomic { with[1] == me && is[1] == handed -> is[1] = runs; used[me] = used[me] + slots_of(1) }
#if JOBS > 2
  :: atomic { with[2] == me && is[2] == handed -> is[2] = runs; used[me] = used[me] + slots_of(2) }
#endif
  :: else -> break
  od;
  asleep[me] = true;
  if
  :: killed[me] || gone[me]
  :: called[me] && !killed[me] && !gone[me] -> goto look
#ifdef LOSSES
  :: !killed[me] && !gone[me] -> goto look                   /* now and then */
#endif
  fi
}

/* What ends, by itself or because the worker shuts down, in any order. */
proctype Slots(byte me) {
  byte job;
  do
  :: atomic { !killed[me] ->
       if
       :: with[0] == me && is[0] == runs -> job = 0
       :: with[1] == me && is[1] == runs -> job = 1
#if JOBS > 2
       :: with[2] == me && is[2] == runs -> job = 2
#endif
       fi;
       used[me] = used[me] - slots_of(job); with[job] = NOBODY;
       if
       :: is[job] = done; answers[job] = 0
       :: draining[me] -> is[job] = waits                    /* give_back.lua: to the head */
          d_step {
            w = waiting;
            do
            :: w > 0 -> line[w] = line[w - 1]; w--
            :: else -> break
            od;
            line[0] = job; waiting++;
            idle[me] = -1; call_worker(answers[job]); w = 0; best = 0
          }
       fi;
       job = 0; called[me] = true }
  :: atomic { stays > 1 && !draining[me] -> stays--; draining[me] = true }
#ifdef LOSSES
  :: atomic { stays > 1 && !draining[me] -> stays--; killed[me] = true }
#endif
  :: d_step { draining[me] && !killed[me] && asleep[me] && !called[me] && used[me] == 0 ->
       gone[me] = true };                                    /* leave.lua */
     break
  :: d_step { killed[me] && asleep[me] -> gone[me] = true }; /* its signs of life run out */
     break
  :: all_done -> break
  od
}

init {
  byte each = 0;
  atomic {
    do
    :: each < WORKERS -> run Worker(each); run Slots(each); each++
    :: else -> break
    od;
    run Edge()
  }
}

#define rests(w)    (gone[w] || asleep[w] && !called[w])
#define has_room(w) (!gone[w] && !draining[w] && (used[w] == 0 || answers[line[0]] + used[w] <= SLOTS))

/* Never does everybody sleep while the first in line would fit: no look now and then is needed. */
ltl taken_at_once { [] !(waiting > 0 && rests(0) && rests(1)
                      && (has_room(0) || has_room(1))) }

/* Each job ends, whoever is killed. */
ltl ends { <> all_done }
