"""The oracle finds what it is there to find."""

import tempfile
import unittest
from pathlib import Path

from drivers import Failed
from oracle import AS_ASSIGNED, COMMITS, Oracle
from records import CODECS, read_tasks, record

COUNT = 700


def oracle() -> Oracle:
    """Everything was sent to one partition and acknowledged in order."""
    made = Oracle("test", 1, CODECS, True)
    with tempfile.TemporaryDirectory() as folder:
        made.write(Path(folder) / "records", range(COUNT))
    for index in range(COUNT):
        made.heard("A", [str(index), "0", str(index)])
    return made


class OracleTest(unittest.TestCase):
    def read(self, lines) -> Oracle:
        made = oracle()

        def run():
            reading = made.reading("test")
            for line in lines(made):
                reading.heard("M", line)
            reading.judge()

        try:
            made.stage(AS_ASSIGNED, run)
        except Failed:
            pass
        return made

    def test_what_comes_back_as_it_was_sent_passes(self):
        made = self.read(lambda made: (["-", "0", str(i), *made.expected[i]] for i in range(COUNT)))
        self.assertEqual("yes", made.verdicts()[AS_ASSIGNED])
        self.assertTrue(all(made.verdicts()[codec] == "yes" for codec in CODECS))

    def test_a_lost_record_is_found(self):
        made = self.read(lambda made: (["-", "0", str(i), *made.expected[i]] for i in range(COUNT - 1)))
        self.assertIn("read up to", made.verdicts()[AS_ASSIGNED])

    def test_a_gap_is_found(self):
        made = self.read(lambda made: (["-", "0", str(i), *made.expected[i]] for i in range(COUNT) if i != 5))
        self.assertIn("went on at 6, expected 5", made.verdicts()[AS_ASSIGNED])

    def test_records_that_changed_places_are_found(self):
        made = self.read(lambda made: (["-", "0", str(i), *made.expected[i ^ 1]] for i in range(COUNT)))
        self.assertNotEqual("yes", made.verdicts()[AS_ASSIGNED])

    def test_a_change_of_each_part_is_found_and_blamed(self):
        for part, feature in enumerate(("timestamps", "keys", CODECS[7 % len(CODECS)], "headers")):

            def lines(made, part=part):
                for i in range(COUNT):
                    digests = list(made.expected[i])
                    if i == 7:
                        digests[part] += "x"
                    yield ["-", "0", str(i), *digests]

            verdicts = self.read(lines).verdicts()
            self.assertIn("record 7 at (0, 7)", verdicts[feature])
            self.assertNotEqual("yes", verdicts[AS_ASSIGNED])

    def test_an_acknowledgement_twice_is_found(self):
        made = oracle()
        with self.assertRaises(Failed):
            made.heard("A", ["0", "1", "0"])

    def test_a_record_without_acknowledgement_is_found(self):
        made = oracle()
        with self.assertRaises(Failed):
            made.all_acked(range(COUNT + 1))

    def test_offsets_with_a_hole_are_found(self):
        made = oracle()
        made.heard("A", [str(COUNT), "0", str(COUNT + 1)])
        with self.assertRaises(Failed):
            made.ends()

    def test_a_member_behind_a_commit_is_found(self):
        made = oracle()
        made.heard("C", ["a", "0:10"])
        made.heard("J", ["b", "0"])
        made.heard("M", ["b", "0", "9", *made.expected[9]])
        with self.assertRaises(Failed):
            made.judge_commits()
        self.assertNotEqual("yes", made.verdicts()[COMMITS])

    def test_a_member_that_skips_is_found(self):
        made = oracle()
        made.heard("J", ["b", "0"])
        made.heard("M", ["b", "0", "0", *made.expected[0]])
        with self.assertRaises(Failed):
            made.heard("M", ["b", "0", "2", *made.expected[2]])

    def test_files_of_records_have_what_was_made(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "records"
            Oracle("test", 1, CODECS, True).write(path, range(COUNT))
            tasks = list(read_tasks(path))
        self.assertEqual([record(1, index, True) for index in range(COUNT)], [task.record for task in tasks])
        self.assertEqual(list(range(COUNT)), [task.index for task in tasks])


if __name__ == "__main__":
    unittest.main()
