"""Tables in as much width as there is."""

from __future__ import annotations

import pytest

from poller.cli.layout import Column, cells, cut, folded, folded_words, laid_out

EVENT = "evt_efaf9e94b6834ef7a6e09a06ff54a54f"
NUMBER = "A2026112406124600001"
TIME = "2026-11-24 06:12:46Z"
COLUMNS = (
    Column("id"),
    Column("number"),
    Column("tries", drop=2),
    Column("made", drop=1),
    Column("next", drop=3),
    Column("answer", fold=True),
)
ROW = (EVENT, NUMBER, "12", TIME, TIME, "no connection: 连接被拒绝 Connection refused")


def test_chinese_characters_take_two_columns() -> None:
    assert (cells("粤B660PP"), cells("ab"), cells("e\u0301")) == (8, 2, 1)


def test_without_a_width_every_column_is_there_and_aligned() -> None:
    head, first, second = laid_out([Column("a"), Column("b", drop=1)], [("粤", "1"), ("x", "2")], None)
    assert [head, first, second] == ["a   b", "粤  1", "x   2"]


def test_what_is_short_of_width_loses_the_columns_that_matter_least() -> None:
    columns = [Column("number"), Column("state"), Column("polls", drop=1), Column("lot", drop=2)]
    rows = [(NUMBER, "pending", "3", "49f0")]
    assert laid_out(columns, rows, 80)[0].split() == ["number", "state", "polls", "lot"]
    assert laid_out(columns, rows, 36)[0].split() == ["number", "state", "lot"]
    assert laid_out(columns, rows, 30)[0].split() == ["number", "state"]


def test_free_text_goes_over_several_lines_before_a_column_is_lost() -> None:
    columns = [Column("number"), Column("polls", drop=1), Column("answer", fold=True)]
    lines = laid_out(columns, [(NUMBER, "3", "code 1001 without a usable status, and more of it")], 60)
    assert lines[0].split() == ["number", "polls", "answer"]
    assert len(lines) == 3
    assert max(map(cells, lines)) <= 60


def test_columns_that_say_nothing_take_no_width() -> None:
    columns = [Column("number"), Column("made", drop=1), Column("answer", fold=True)]
    assert laid_out(columns, [(NUMBER, "", "")], 80)[0] == "number"
    assert laid_out(columns, [(NUMBER, "", "")], None)[0].split() == ["number", "made", "answer"]


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40])
def test_ids_numbers_and_times_are_whole_at_any_width(width: int) -> None:
    lines = laid_out(COLUMNS, [ROW, ROW], width)
    for text in (EVENT, NUMBER):
        assert sum(text in line for line in lines) == 2
    assert max(map(cells, lines)) <= width


def test_where_not_even_the_least_fits_each_row_is_a_paragraph_with_everything_in_it() -> None:
    assert laid_out(COLUMNS, [ROW], 70) == [
        f"{EVENT}  {NUMBER}",
        f"    tries 12  made {TIME}  next {TIME}",
        "    no connection: 连接被拒绝 Connection refused",
    ]


def test_a_number_that_is_wider_than_the_terminal_stays_whole() -> None:
    assert laid_out([Column("number")], [("9" * 128,)], 80) == ["9" * 128]


def test_text_is_folded_between_words_or_where_it_must_be() -> None:
    assert folded("one two three", 7) == ["one two", "three"]
    assert folded("检查请求参数", 5) == ["检查", "请求", "参数"]
    assert folded("", 5) == [""]
    assert folded_words("ask `poller reopen 123456789` again", 10) == [
        "ask",
        "`poller",
        "reopen",
        "123456789`",
        "again",
    ]


def test_what_is_cut_says_so() -> None:
    assert (cut("abc", 3), cut("abcd", 3), cut("检查请求", 5)) == ("abc", "ab…", "检查…")
