(() => {
  "use strict";
  const form = document.getElementById("filter");
  if (!form) return;
  const cards = [...document.querySelectorAll(".trace")].map((card) => ({
    card,
    text: card.textContent.toLowerCase(),
    answers: [...card.querySelectorAll("[data-condition]")],
  }));
  const apply = () => {
    const words = form.elements.text.value.trim().toLowerCase();
    const wanted = ["condition", "outcome", "verdict"].map((name) => [name, form.elements[name]?.value ?? ""]);
    let shown = 0;
    for (const { card, text, answers } of cards) {
      let any = false;
      for (const answer of answers) {
        const fits = wanted.every(([name, value]) => !value || answer.dataset[name] === value);
        answer.hidden = !fits;
        any ||= fits;
      }
      card.hidden = !any || !text.includes(words);
      shown += !card.hidden;
    }
    form.elements.count.value = `${shown} of ${cards.length} questions shown`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  form.hidden = false;
  apply();
})();
